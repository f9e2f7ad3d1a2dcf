"""A source opens its log: where it sends from, when the correlator moves on meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from operators.core.batch import Source, build_frame
from operators.core.positions import Fate, SourcePosition
from operators.source_open import Opened, open_source
from sda_pipeline.log.source_log import LogStart, SourceLog
from sda_pipeline.records.frames import KIND_ROWS, Counts, Part
from sda_pipeline.state.recovery import CORRELATOR, LOGS
from sda_pipeline.state.store import Changes, CorrelatorStore
from tests.unit.sink_rig import Words
from tests.unit.topology_rig import repository_topology

OLD, NEW = 0xA, 0xB
PARTS = (Part(0, 0, 70, 0),)


class Worker:
    """What opening sees of its process."""

    name = "radar"

    def __init__(self, state: Path) -> None:
        self.board = Words()
        self.topology = replace(
            repository_topology(), state=state, broker=f"embedded:{state / 'broker'}"
        )
        self.launch = SimpleNamespace(suspect=False, incarnation=1)
        self.events: list[str] = []

    def beat(self, _step: object) -> None:
        pass

    def fail(self, point: str) -> None:
        pass

    def event(self, event: str, **_fields: Any) -> None:
        self.events.append(event)


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    made = Worker(tmp_path)
    store = CorrelatorStore(tmp_path / CORRELATOR)
    position = SourcePosition(log_id=OLD, log_first=1, position=7, parts=PARTS)
    encoded = {"radar": msgspec.msgpack.encode(position)}
    store.commit(Changes(positions=encoded), lambda: None)
    store.close()
    return made


def new_log(worker: Worker, count: int) -> None:
    """A log that was made anew behind position 7, with so many frames."""
    directory = worker.topology.state / LOGS / "radar"
    directory.parent.mkdir(parents=True)
    with SourceLog.open(directory, 0, LogStart(NEW, 8)) as log:
        for position in range(8, 8 + count):
            source = Source(0, NEW, 0, never_shed=False, log_first=8)
            built = build_frame(source, KIND_ROWS, position, 0, 0, PARTS, Counts())
            log.append(built.header, built.payload, b"")
            log.sync()


def opened(worker: Worker) -> Opened:
    found = open_source(worker, 0)  # type: ignore[arg-type]
    found.consumer.close()
    return found


def test_it_sends_from_where_the_store_stood_when_its_log_was_found_to_fit(worker: Worker) -> None:
    """The correlator may apply an old log's frame 8 from the ring after that look. Sent from the
    board's position, the new log's 9 came next and was taken: what its own 8 held was lost.
    """
    new_log(worker, 2)
    worker.board.set("radar.applied", 8)
    found = opened(worker)
    assert found.applied == 7
    assert found.log_first == 8
    reached = SourcePosition(log_id=OLD, log_first=1, position=8).reached
    fates = [reached.fate(r.header) for r in found.log.records(found.applied + 1)]
    assert fates == [Fate.GAP, Fate.GAP]
    found.log.close()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_log_remembers_where_it_began(count: int, worker: Worker) -> None:
    new_log(worker, count)
    found = opened(worker)
    assert (found.log_first, found.log.log_id) == (8, NEW)
    found.log.close()


def test_a_log_made_anew_begins_behind_the_correlator_and_says_what_it_lacks(
    worker: Worker,
) -> None:
    found = opened(worker)
    assert (found.log.first, found.log_first, found.applied) == (8, 8, 7)
    assert found.lost is not None
    assert found.lost.reaches == ((0, 0, 70),)
    assert found.dlq_done == 7
    assert worker.events == ["log_missing"]
    found.log.close()
