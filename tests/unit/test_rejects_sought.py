"""Rejects that went with a log: which offsets are read again, what is found, what is in doubt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from operators.core.batch import Source, build_frame
from operators.core.positions import SourcePosition
from operators.core.spans import Span, ended_since, spans
from operators.digest import Digester
from operators.lost_rejects import LostRejects, before_log
from sda_pipeline.broker.connect import open_consumer, open_producer
from sda_pipeline.broker.port import OutMessage
from sda_pipeline.dlq.entry import entry_of
from sda_pipeline.dlq.files import DlqFiles
from sda_pipeline.dlq.marks import Mark
from sda_pipeline.log.source_log import LogStart, SourceLog
from sda_pipeline.records.frames import KIND_ROWS, Counts, Part
from sda_pipeline.records.rejects import Reach, Reject, pack_rejects
from sda_pipeline.settings import RADAR
from tests.unit.alert_rig import T0
from tests.unit.dlq_rig import head, reject
from tests.unit.observation_rig import messages, reducer
from tests.unit.test_withheld import Worker, line, quarantine

LOG, OLD, CATALOGUE = 0xB, 0xA, 77
BAD = (1, 4, 5, 11)  # offsets, of 12
PARTS = (Part(0, 0, 12, 0),)


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        ([], [], []),
        ([], [(0, 3, 9)], [(0, 3, 0, 9)]),
        ([(0, 3, 4)], [(0, 3, 9)], [(0, 3, 4, 9)]),
        ([(0, 3, 9)], [(0, 3, 9)], []),
        ([(0, 3, 12)], [(0, 3, 9)], []),  # the dlq-sink was ahead of the correlator
        ([(0, 2, 4)], [(0, 3, 9)], [(0, 3, 0, 9)]),
        ([(0, 4, 1)], [(0, 3, 9)], []),
        ([(1, 0, 2)], [(1, 0, 5), (0, 0, 7)], [(0, 0, 0, 7), (1, 0, 2, 5)]),
    ],
)
def test_what_lies_between_two_standings(lower: list, upper: list, expected: list) -> None:
    low, high = [Reach(*r) for r in lower], [Reach(*r) for r in upper]
    assert spans(low, high) == [Span(*s) for s in expected]
    assert ended_since(low, high) == ([Reach(0, 2, 4)] if lower == [(0, 2, 4)] else [])


class Scene:
    """A topic of good and bad records, a DLQ, and a log that took the place of another at 8."""

    def __init__(self, root: Path) -> None:
        self.root, self.url = root, f"embedded:{root / 'broker'}"
        self.producer = open_producer(self.url)
        self.producer.create_topic("t", 1)
        values, stamps = messages(RADAR, 12)
        self.values = [b"{bad %d" % n if n in BAD else v for n, v in enumerate(values)]
        sent = zip(self.values, stamps.tolist(), strict=True)
        self.producer.produce("t", [OutMessage(b"%d" % n, *m) for n, m in enumerate(sent)])
        self.log = SourceLog.open(root / "log", 0, LogStart(LOG, 8))
        self.dlq = DlqFiles(root / "dlq")
        self.worker = Worker(root)
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.beats = 0

    def mark(self, **fields: Any) -> None:
        mark = Mark(OLD, 5, **{"reaches": (Reach(0, 0, 4),), "catalogue": CATALOGUE, **fields})
        self.dlq.store_marks({"radar": mark})

    def append(self, rejects: list[Reject], reported: int = 0) -> None:
        """A first record, which holds what the broker has from offset 8 on."""
        counts = Counts(read=12, rejected=12, reported=reported)
        built = build_frame(Source(0, LOG, CATALOGUE, never_shed=False), KIND_ROWS, 8, 0, T0,
                            PARTS, counts)  # fmt: skip
        self.log.append(built.header, built.payload, pack_rejects(rejects))
        self.log.sync()

    def seek(self, catalogue: int = CATALOGUE, reported: int = 0) -> LostRejects | None:
        position = SourcePosition(
            log_id=OLD, position=7, parts=PARTS, counts=Counts(reported=reported).as_tuple()
        )
        lost = before_log(
            self.log, position, self.root / "dlq", "radar", catalogue=catalogue, beat=self._beat
        )
        digester = Digester(
            self.worker, 0, reducer(RADAR),  # type: ignore[arg-type]
            lambda: open_consumer(self.url, "t", "g", 1),
        )  # fmt: skip
        return lost and LostRejects(lost, digester, self._say)

    def _beat(self) -> None:
        self.beats += 1

    def _say(self, event: str, **fields: Any) -> None:
        self.said.append((event, fields))

    def close(self) -> None:
        self.log.close()
        self.dlq.close()
        self.producer.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


def found(lost: LostRejects | None) -> list[Reject]:
    assert lost is not None
    rejects: list[Reject] = []
    while (more := lost.next()) is not None:
        rejects += more
    return rejects


def offsets(lost: LostRejects | None) -> list[int]:
    return [reject.offset for reject in found(lost)]


def test_they_come_back_with_their_bytes(scene: Scene) -> None:
    scene.mark()
    lost = scene.seek()
    rejects = found(lost)
    assert [r.offset for r in rejects] == [4, 5, 11]
    assert all(r.raw == scene.values[r.offset] and r.kind == "Deserialization" for r in rejects)
    assert lost is not None
    assert (lost.reaches, lost.in_doubt) == ((Reach(0, 0, 12),), 0)
    assert scene.said == [("rejects_sought", {"offsets": 8})]


def test_nothing_is_sought_when_the_mark_says_that_all_is_there(scene: Scene) -> None:
    scene.dlq.store_marks({"radar": Mark(LOG, 7)})
    assert scene.seek() is None
    scene.dlq.store_marks({"radar": Mark(LOG, 7, 3, complete=False)})
    assert scene.seek() is not None, "only a part of them has come"
    scene.mark(reaches=(Reach(0, 0, 12),))
    assert offsets(scene.seek()) == []


def test_what_the_log_holds_itself_is_left_to_it(scene: Scene) -> None:
    scene.mark()
    scene.append([reject(11)])
    assert offsets(scene.seek()) == [4, 5]


@pytest.mark.parametrize("entries", [[], [1], [1, 4]])
def test_a_mark_of_an_older_release_is_read_from_the_entries(
    entries: list[int], scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operators.lost_rejects.ENTRIES_PER_BEAT", 1)
    written = [
        entry_of(reject(o), head(5, 1, log_id=OLD), n, "radar", "t") for n, o in enumerate(entries)
    ]
    ahead = entry_of(reject(9), head(6, 2, log_id=OLD, last=False), 0, "radar", "t")
    scene.dlq.append([*written, ahead], T0)
    scene.mark(reaches=(), catalogue=0)
    scene.dlq.store_marks({"radar": Mark(OLD, 6, 0, complete=False)})
    assert offsets(scene.seek()) == [offset for offset in BAD if offset > max(entries, default=-1)]
    assert scene.beats == len(entries) + 1


def test_reports_are_sought_as_far_as_they_were_made(scene: Scene) -> None:
    quarantine(
        scene.root, line(3, report=1, generation=0), line(0, report=2, generation=0),
        line(7, report=3, generation=0),
    )  # fmt: skip
    scene.mark()
    rejects = found(scene.seek(reported=2))
    assert [(r.offset, r.kind) for r in rejects[3:]] == [(3, "Quarantined"), (0, "Quarantined")]
    assert rejects[3].raw == scene.values[3]


def test_a_withheld_record_is_found_as_withheld(scene: Scene) -> None:
    quarantine(scene.root, line(6, generation=0), line(5, generation=0))
    scene.mark()
    kinds = {r.offset: r.kind for r in found(scene.seek())}
    assert kinds == {
        4: "Deserialization", 5: "Quarantined", 6: "Quarantined", 11: "Deserialization",
    }  # fmt: skip


def test_what_the_broker_no_longer_has_is_in_doubt_and_said(scene: Scene) -> None:
    scene.mark()
    scene.producer.recreate_topic("t")  # type: ignore[attr-defined]
    lost = scene.seek()
    assert offsets(lost) == []
    assert lost is not None
    assert lost.in_doubt == 8
    (_, (event, fields)) = scene.said
    assert event == "rejects_in_doubt"
    assert (fields["offsets"], fields["first"], fields["end"]) == (8, 4, 12)
    assert "no longer has" in fields["why"]


def test_a_generation_that_ended_is_in_doubt(scene: Scene) -> None:
    quarantined = Mark(OLD, 5, reaches=(Reach(0, 0, 4),), catalogue=CATALOGUE)
    scene.dlq.store_marks({"radar": quarantined})
    position = SourcePosition(log_id=OLD, position=7, parts=(Part(0, 1, 0, 0),))
    lost = before_log(
        scene.log, position, scene.root / "dlq", "radar", catalogue=CATALOGUE, beat=scene._beat
    )
    assert lost is not None
    sought = LostRejects(lost, Digester(scene.worker, 0, reducer(RADAR)), scene._say)  # type: ignore[arg-type]
    assert found(sought) == []
    assert sought.in_doubt > 0
    assert [event for event, _ in scene.said] == ["rejects_in_doubt"]


def test_with_another_catalogue_they_are_in_doubt_not_guessed(scene: Scene) -> None:
    scene.mark()
    lost = scene.seek(catalogue=CATALOGUE + 1)
    assert offsets(lost) == []
    assert lost is not None
    assert (lost.in_doubt, lost.catalogue) == (8, CATALOGUE + 1)
    ((event, fields),) = scene.said
    assert event == "rejects_in_doubt"
    assert "catalogue" in fields["why"]
