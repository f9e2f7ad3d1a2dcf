"""Opening the correlator: when it takes a new epoch, what it says again, when it rewinds."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from operators import correlator_open
from operators.core.alerts import AlertState
from operators.core.batch import Source, build_frame
from operators.core.positions import SourcePosition
from operators.correlator_open import open_checkpoints
from sda_pipeline.astro.catalogue import parse_catalogue
from sda_pipeline.clock import ManualClock
from sda_pipeline.errors import InvalidConfiguration, Rewind
from sda_pipeline.log.source_log import LogStart, SourceLog
from sda_pipeline.records.alert import Entry, entry_of_records, parse_entry
from sda_pipeline.records.frames import KIND_ROWS, Counts
from sda_pipeline.records.rows import ROW
from sda_pipeline.runtime.audit_log import Standing, Walked
from sda_pipeline.runtime.audit_report import AuditReport
from sda_pipeline.runtime.audit_store import StoreAudit
from sda_pipeline.runtime.launch import RunFlags
from sda_pipeline.settings import EventTime, Physics
from sda_pipeline.state.recovery import CORRELATOR, SNAPSHOTS
from sda_pipeline.state.snapshot import take_snapshot
from sda_pipeline.state.store import Changes, CorrelatorStore
from sda_pipeline.topology import Inputs
from tests.unit.alert_rig import T0, at, insert, retract
from tests.unit.sink_rig import Chain, Words, open_chain

ELEMENTS = Path(__file__).parents[1] / "fixtures" / "iridium33-cosmos2251.tle"
HASH = 0x1234
SOURCES = ("radar", "optical")
encode = msgspec.msgpack.encode


class FakeWorker:
    """What opening needs of a worker."""

    name = "correlator"

    def __init__(self, state: Path, board: Words, **flags: bool) -> None:
        self.topology = SimpleNamespace(
            state=state,
            physics=Physics(),
            event_time=EventTime(),
            sources=SOURCES,
            s3=None,
        )
        self.board, self.clock = board, ManualClock(0, 0)
        self.launch = SimpleNamespace(flags=RunFlags(**flags))
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def fail(self, point: str) -> None:
        pass


@pytest.fixture
def board() -> Words:
    return Words()


def inputs(number: int = HASH) -> Inputs:
    return Inputs(parse_catalogue(ELEMENTS.read_text(), "tle"), None, number)  # type: ignore[arg-type]


def open_at(state: Path, board: Words, number: int = HASH, **flags: bool) -> Any:
    """Core, checkpoints and worker of one opening; the store is closed."""
    worker = FakeWorker(state, board, **flags)
    core, checkpoints = open_checkpoints(worker, inputs(number))  # type: ignore[arg-type]
    checkpoints.close()
    return SimpleNamespace(core=core, checkpoints=checkpoints, worker=worker)


def state_of(record: dict[str, Any], *, final: bool = False) -> AlertState:
    return AlertState(
        alert_id=record["alert_id"], low=1, high=2, tca_ns=T0 + int(record["alert_id"][1:]) * 5**9,
        catalogue=HASH, sequence=record["sequence"], level=record.get("level"), final=final,
        record=record,
    )  # fmt: skip


HELD = [insert("a1", at(1)), insert("a2", at(2), "YELLOW", final=True), retract("a3", at(4))]
GONE = insert("a9", at(5), final=True)  # closed for more than an hour, and not at the sink yet


@pytest.fixture
def state(tmp_path: Path, board: Words) -> Path:
    """Five outbox entries, of which the sink confirmed the first two; epoch 1."""
    open_at(tmp_path, board)
    store = CorrelatorStore(tmp_path / CORRELATOR)
    records = [HELD[0], HELD[1], insert("a3", at(3)), HELD[2], GONE]
    meta = msgspec.structs.replace(
        store.meta, outbox_end=at(5), outbox_deleted=at(2), closed_to=T0 - 1
    )
    alerts = {r["alert_id"]: encode(state_of(r, final=r["final"])) for r in HELD}
    store.commit(
        Changes(
            positions={"radar": encode(SourcePosition(log_id=7, log_first=1, position=9))},
            alerts=alerts,
            outbox=[entry_of_records(at(n), [r]) for n, r in enumerate(records, 1)],
            outbox_gone_through=at(2),
            meta=meta,
        ),
        lambda: None,
    )
    store.close()
    board.update({"sink_pos": at(2), "sub_pos": at(2), "epoch": 1, "outbox_end": at(5)})
    return tmp_path


def said(entries: list[Entry]) -> list[Any]:
    """(alert, action, final) of each entry, or the time closed through."""
    found: list[Any] = []
    for entry in entries:
        content = parse_entry(entry.kind, entry.body)
        if isinstance(content, int):
            found.append(content)
        else:
            found += [(r.alert_id, r.action, r.final) for r in content]
    return found


AGAIN = [
    ("a9", "insert", True), ("a1", "insert", False), ("a2", "insert", True),
    ("a3", "retract", False), T0 - 1,
]  # fmt: skip


def test_an_intact_store_goes_on_in_its_epoch(state: Path, board: Words) -> None:
    opened = open_at(state, board)
    assert opened.checkpoints.epoch == 1
    assert [entry.position for entry in opened.checkpoints.outbox] == [at(3), at(4), at(5)]
    (event,) = opened.worker.events
    assert event[0] == "recovered"
    assert {word: board[word] for word in board if word.startswith("recovered")} == {
        "recovered_fresh": 1,  # when the state was made
        "recovered_local": 1,
        "recovered_snapshot": 0,
        "recovered_remote": 0,
    }
    assert (
        event[1] | {"path": "local", "epoch": 1, "positions": {"radar": 9, "optical": 0}}
        == (event[1])
    )


@pytest.mark.parametrize(
    ("words", "epoch", "why"),
    [
        ({"sink_pos": 0}, 2, "the sink lacks what was deleted"),
        ({"sink_pos": at(1)}, 2, "the sink lacks what was deleted"),
        ({"sink_pos": at(6), "sub_pos": at(6)}, 2, "the store ends at"),
        ({"sub_pos": at(6)}, 2, "the store ends at"),
        ({"outbox_end": at(6)}, 2, "the store ends at"),
        ({"sink_pos": at(3, 4)}, 5, "the store ends at"),
        ({"sink_pos": 0, "sub_pos": at(3, 4)}, 5, "the sink lacks"),
        ({"epoch": 7}, 8, "the store ends at"),
        ({"remote_epoch": 6}, 7, "the remote holds snapshots of epoch 6"),
        ({"remote_epoch": 1, "remote_rival": 1}, 2, "the remote holds another writer's"),
    ],
)
def test_what_a_reader_lost_or_has_beyond_it_is_said_again_above_all_known(
    words: dict[str, int], epoch: int, why: str, state: Path, board: Words
) -> None:
    board.update(words)
    opened = open_at(state, board)
    assert opened.checkpoints.epoch == epoch
    raised = [fields for event, fields in opened.worker.events if event == "epoch_raised"]
    assert raised[0]["why"].startswith(why)
    entries = opened.checkpoints.outbox
    assert [entry.position for entry in entries] == [at(n, epoch) for n in range(1, 6)]
    assert said(entries) == AGAIN
    sequences = {key: alert.sequence for key, alert in opened.core.alerts.items()}
    assert sequences == {"a1": at(2, epoch), "a2": at(3, epoch), "a3": at(5, epoch)}
    board.update({"sink_pos": 0, "sub_pos": 0, "epoch": epoch, "outbox_end": 0})
    again = open_at(state, board)  # it was one transaction: nothing is due any more
    assert (again.checkpoints.epoch, again.checkpoints.outbox) == (epoch, entries)


def test_each_epoch_draws_an_id_and_keeps_it(state: Path, board: Words) -> None:
    ids = []
    for rival in (0, 1, 0):
        board["remote_epoch"] = board["remote_rival"] = rival
        ids.append(open_at(state, board).checkpoints.meta.epoch_id)
    assert 0 != ids[0] != ids[1] == ids[2] != 0


def deliver_and_lose(chain: Chain, state: Path, board: Words) -> dict[str, Any]:
    """All at the readers, then the sink's store is gone, and the correlator opens and sends."""
    chain.outbox = [
        entry_of_records(at(1), [HELD[0]]),
        entry_of_records(at(2), [HELD[1]]),
        *open_at(state, board).checkpoints.outbox,
    ]
    chain.settle()
    before = alerts_of(chain)
    for path in chain.topology.state.iterdir():
        path.unlink()
    chain.board.update({"sink_pos": 0})
    board.update({"sink_pos": 0, "sub_pos": at(5)})
    chain.outbox, chain.published = open_at(state, board).checkpoints.outbox, 0
    return before


def alerts_of(chain: Chain) -> dict[str, Any]:
    """The sink's last records, without what tells of their history."""
    history = ("sequence", "supersedes")
    return {
        alert: {k: v for k, v in record.items() if k not in history}
        for alert, record in chain.alerts().items()
    }


def test_a_sink_that_lost_its_store_ends_up_with_what_it_had(
    state: Path, board: Words, tmp_path: Path
) -> None:
    with open_chain(tmp_path / "chain") as chain:
        before = deliver_and_lose(chain, state, board)
        effects = len(chain.ledger())
        chain.settle()
        assert alerts_of(chain) == before
        assert all(line.effect == "confirm" for line in chain.ledger()[effects:])


def test_without_a_new_epoch_it_never_would(
    state: Path, board: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correlator_open, "_why_new_epoch", lambda *_: "")
    with open_chain(tmp_path / "chain") as chain:
        before = deliver_and_lose(chain, state, board)
        chain.settle()
        assert alerts_of(chain) != before


@pytest.mark.parametrize("rung", ["snapshot", "fresh"])
def test_every_other_rung_takes_an_epoch_and_rewinds_what_was_told_more(
    rung: str, state: Path, board: Words
) -> None:
    if rung == "snapshot":
        store = CorrelatorStore(state / CORRELATOR)
        take_snapshot(store, state / SNAPSHOTS, 0, lambda _: None)
        store.close()
    shutil.rmtree(state / CORRELATOR)
    board["radar.applied"] = 12
    with pytest.raises(Rewind, match=r"had reported radar\.applied 0xc"):
        open_at(state, board)
    board.update({"radar.applied": 0, "outbox_end": 0})  # what the supervisor does about it
    opened = open_at(state, board)
    assert opened.checkpoints.epoch == 2
    assert said(opened.checkpoints.outbox) == (AGAIN if rung == "snapshot" else [])
    assert opened.core.positions["radar"].position == (9 if rung == "snapshot" else 0)


def test_a_fresh_start_begins_where_the_logs_begin_and_counts_what_is_gone(
    tmp_path: Path, board: Words
) -> None:
    (tmp_path / "log").mkdir()
    log = SourceLog.open(tmp_path / "log" / "radar", 0, LogStart(7, 5))
    about = Source(0, 7, HASH, never_shed=True)
    for position, rows in ((5, 30), (6, 50)):
        counts = Counts(read=120 + rows, rows=100 + rows, late=20)
        built = build_frame(about, KIND_ROWS, position, 0, 0, (), counts, np.zeros(30, ROW))
        log.append(built.header, built.payload, b"")
        log.sync()
    log.close()
    opened = open_at(tmp_path, board)
    position = opened.core.positions["radar"]
    assert position.reached == (7, 5, 4)
    assert position.missing == 100 == position.classes()
    assert ("recovery_gap", {"source": "radar", "rows": 100, "through": 4}) in opened.worker.events
    again = open_at(tmp_path, board)
    assert again.core.positions["radar"] == position
    last = Standing(None, {}, Counts(read=170, rows=150, late=20), 0)
    audited = StoreAudit(tmp_path / CORRELATOR, AuditReport())
    total = audited.sum_of("radar", Walked(7, 5, 6, whole=False, last=last))
    assert (total.missing, total.in_flight, total.residue) == (100, 50, 0)


def test_another_catalogue_is_refused_until_it_is_accepted(state: Path, board: Words) -> None:
    with pytest.raises(InvalidConfiguration, match="or start with --accept-catalogue"):
        open_at(state, board, HASH + 1)
    opened = open_at(state, board, HASH + 1, accept_catalogue=True)
    assert opened.checkpoints.meta.catalogue == HASH + 1
    assert set(opened.core.alerts) == {"a1", "a2", "a3"}
    with pytest.raises(InvalidConfiguration):
        open_at(state, board)
