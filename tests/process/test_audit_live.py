"""``audit`` beside a pipeline that runs: exact while traffic flows and operators die, and no word
of the board may lie. What a stopped one leaves is audited in test_audit.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sda_pipeline.clock import ManualClock
from sda_pipeline.errors import SdaError
from sda_pipeline.runtime.audit import audit
from sda_pipeline.runtime.audit_report import AuditReport
from sda_pipeline.state.snapshot import manifests
from sda_pipeline.topology import from_resolved_json
from supervisor.control import ask
from supervisor.quiescence import delivered
from tests.process.flow import Run
from tests.process.forgery import Files
from tests.process.lies_of_two import quarantine_more
from tests.process.site import Site, kill_tree
from tests.process.state_rig import flip
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process

Lie = Callable[[Files], object]
SOURCES = ("radar", "optical", "isl")
KILLED = {0.2: "correlator", 0.4: "alert-sink", 0.5: "dlq-sink", 0.6: "radar", 0.75: "subscriber"}
AUDITS = 30  # over the whole recording
EXACT = (
    "outbox_end", "sink_pos", "sub_pos", "epoch",
    *(f"{source}.{word}" for source in SOURCES
      for word in ("applied", "dlq_done", "dlq_log", "log_end", "log_id", "watermark")),
)  # fmt: skip
AT_MOST = (
    "snapshot_seq",
    *(f"{s}.{w}" for s in SOURCES for w in ("ended", "reported", "snapshot", "quarantined")),
)


def words(state: Path) -> dict[str, int] | None:
    try:
        return dict(ask(state, "board", "look")["words"])
    except SdaError:
        return None


def audited(site: Site) -> AuditReport:
    topology = from_resolved_json((site.state / "topology.json").read_bytes())
    return audit(topology, lambda: words(site.state))


class Frozen:
    """The board as it was, with operators that go on beating, and some words falsified."""

    def __init__(self, real: dict[str, int], **false: int) -> None:
        self.words = real | false

    def __call__(self) -> dict[str, int]:
        for word in self.words:
            self.words[word] += word.endswith(".heartbeat")
        return dict(self.words)


def test_it_is_exact_at_any_moment_and_no_word_of_the_board_may_lie(recorded: Site) -> None:
    run = Run(recorded)
    try:
        run.play()
        check_while_traffic_flows(run)
        assert run.traffic.wait(60) == 0
        wait_until(lambda: is_settled(run.site), run.story)
        check_words(run.site)
        check_files(run.site)
    finally:
        kill_tree(run.pipeline)
        run.traffic.kill()


def check_while_traffic_flows(run: Run) -> None:
    """Audits spread over the recording, some of them right after a kill."""
    read: Counter[int] = Counter()
    deaths = dict(KILLED)
    for at in range(1, AUDITS):
        run.wait_for(at / AUDITS)
        if deaths and next(iter(deaths)) <= at / AUDITS:
            run.kill(deaths.pop(next(iter(deaths))))
        report = audited(run.site)
        assert report.faults == [], run.story()
        assert [source.residue for source in report.sources] == [0, 0, 0]
        read[sum(source.read for source in report.sources)] += 1
    assert not deaths
    assert len(read) > AUDITS // 3, "they saw different moments"


def check_files(site: Site) -> None:
    """A lie in each store beside the running tree, taken back again."""
    files = Files(site.root)
    for name, (lie, undo, place) in LIVE_LIES.items():
        kept = {path: path.read_bytes() for path in plain_files(files)}
        lie(files)
        faults = audited(site).faults
        assert any(place in fault for fault in faults), (name, faults[:3])
        undo(files)
        for path in plain_files(files):
            if path not in kept:
                path.unlink()
        for path, data in kept.items():
            if not path.exists() or path.read_bytes() != data:
                path.write_bytes(data)  # in place: the pipeline has it open
        assert audited(site).faults == [], name


def plain_files(files: Files) -> list[Path]:
    """All that may be put back byte by byte: no database is among them."""
    found = [*(files.state / "log").rglob("*.log"), *(files.state / "dlq").iterdir()]
    found += [path for path in (files.state / "snapshots").iterdir() if path.is_file()]
    return [*found, *files.state.glob("quarantine.*")]


def flipped(pattern: str, at: int) -> Lie:
    """A byte of the first file of a pattern."""
    return lambda files: flip(min(files.state.glob(pattern)), at)


def cut_line(files: Files) -> None:
    """The last line of the DLQ is gone."""
    path = max((files.state / "dlq").glob("*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))


def moved(more: int) -> Lie:
    return lambda files: files.position(
        "radar",
        lambda e: e.update(applied=e["applied"] + more, unpaired=e["unpaired"] - more),
    )


def at_ns(by: int) -> Lie:
    return lambda files: files.sql(
        "subscriber", f"UPDATE ledger SET at_ns = at_ns + {by} WHERE id = 1"
    )


def overdue() -> Lie:
    one = "WHERE rowid = (SELECT min(rowid) FROM records)"
    return lambda files: files.sql("alerts", f"UPDATE records SET overdue = 1 - overdue {one}")


LIVE_LIES: dict[str, tuple[Lie, Lie, str]] = {
    "a byte of a log": (flipped("log/radar/*.log", 900), lambda _: None, "log/radar"),
    "a byte of the DLQ": (flipped("dlq/*.jsonl", 300), lambda _: None, "dlq: "),
    "a line of the DLQ": (cut_line, lambda _: None, "dlq: "),
    "a byte of its marks": (flipped("dlq/*.pos", 60), lambda _: None, "dlq: high-water.pos"),
    "a byte of a snapshot": (flipped("snapshots/*.snap", 5000), lambda _: None, "snapshot "),
    "a line of the quarantine": (quarantine_more, lambda _: None, "quarantine.jsonl: it holds 1"),
    "a class for another": (moved(1), moved(-1), "correlator positions of radar: 'applied'"),
    "when an effect was": (at_ns(1), at_ns(-1), "subscriber.sqlite: ledger"),
    "what was overdue": (overdue(), overdue(), "alerts.sqlite: overdue"),
}


def is_settled(site: Site) -> bool:
    """All is delivered, and the last snapshot holds it."""
    found, snapshots = words(site.state), manifests(site.state / "snapshots")
    if found is None or not snapshots or not delivered(found, SOURCES):
        return False
    newest = snapshots[0]
    applied = {source: found[f"{source}.applied"] for source in SOURCES}
    return newest.positions == applied and found["snapshot_seq"] == newest.sequence


def check_words(site: Site) -> None:
    """Every position word, a little too high and a little too low."""
    topology = from_resolved_json((site.state / "topology.json").read_bytes())
    real = words(site.state)
    assert real is not None
    false = [(word, 1) for word in (*EXACT, *AT_MOST)]
    false += [(word, -1) for word in EXACT if real[word]]
    assert audit(topology, Frozen(real), ManualClock()).faults == []
    for word, by in false:
        board = Frozen(real, **{word: real[word] + by})
        faults = audit(topology, board, ManualClock()).faults
        assert any(fault.startswith(f"board: {word} ") for fault in faults), (word, by, faults)
