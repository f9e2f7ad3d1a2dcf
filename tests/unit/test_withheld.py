"""Quarantined records at their source: withheld, found, fetched again; every one counted once."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from operators.core.offsets import Offsets
from operators.core.watermark import EventClock
from operators.digest import Digester
from operators.withheld import Withheld
from sda_pipeline.broker.port import Batch
from sda_pipeline.clock import SystemClock
from sda_pipeline.dlq.quarantine_file import NAME, Line, QuarantineFile
from sda_pipeline.errors import SdaError
from sda_pipeline.records.frames import Part
from sda_pipeline.records.rows import Rows, uuid_text
from sda_pipeline.runtime.in_flight import ROW, SOURCE, BatchAt, Culprit, parse, partition_word
from sda_pipeline.settings import RADAR
from tests.unit.observation_rig import messages, reducer
from tests.unit.sink_rig import Words
from tests.unit.topology_rig import repository_topology

OFFSETS = Offsets((Part(0, 4, 100, 0),))


class Worker:
    """What a source's step 2 sees of its process. ``poison``: observation ids that kill it."""

    def __init__(self, state: Path, *, suspect: bool = False, poison: tuple[str, ...] = ()) -> None:
        self.name, self.board, self.clock = "radar", Words(), SystemClock()
        self.topology = replace(repository_topology(), state=state)
        self.launch = SimpleNamespace(suspect=suspect)
        self.poison = poison
        self.events: list[str] = []

    def beat(self, _step: object) -> None:
        pass

    def event(self, event: str, **_fields: Any) -> None:
        self.events.append(event)

    def fail_rows(self, rows: Rows) -> None:
        if any(uuid_text(row["id"]) in self.poison for row in rows):
            raise KilledHereError(str(len(rows)))

    @property
    def in_flight(self) -> BatchAt | Culprit | None:
        names = (SOURCE, "in_flight_position", ROW)
        return parse({word: self.board.get(f"radar.{word}") for word in names})


class KilledHereError(Exception):
    """Stands for the end of a process that has a poison record in hand."""


def line(offset: int, *, report: int = 0, partition: int = 0, generation: int = 4) -> Line:
    return Line(
        at="", operator="correlator" if report else "radar", deaths=3, source="radar",
        generation=generation, partition=partition, offset=offset, report=report,
    )  # fmt: skip


def quarantine(state: Path, *lines: Line) -> None:
    file = QuarantineFile(state / NAME)
    for each in lines:
        file.append(each)


def good_batch(count: int) -> Batch:
    """Valid messages at offsets 100, 101, ..."""
    values, stamps = messages(RADAR, count)
    offsets = np.arange(100, 100 + count)
    keys = [b"%d" % at for at in range(count)]
    return Batch(np.zeros(count, np.int32), offsets, stamps, keys, [*values], [])


def ids_of(batch: Batch) -> list[str]:
    rows = reducer(RADAR).reduce(batch.values, batch.timestamps_ms).rows
    assert len(rows) == len(batch.values)
    return [uuid_text(row["id"]) for row in rows]


def clock() -> EventClock:
    return EventClock(10**8, 5 * 10**9)


# --- withheld when consumed ----------------------------------------------------------------------


@pytest.mark.parametrize("bad", [(0,), (5,), (11,), (0, 11), (3, 4, 5), tuple(range(12))])
def test_withheld_records_are_rejects_and_the_others_rows(
    bad: tuple[int, ...], tmp_path: Path
) -> None:
    batch = good_batch(12)
    quarantine(tmp_path, *(line(100 + at) for at in bad), line(103, generation=3), line(999))
    worker = Worker(tmp_path, poison=tuple(ids_of(batch)[at] for at in bad))
    digested = Digester(worker, 0, reducer(RADAR)).digest(batch, OFFSETS, clock(), 1)
    assert digested.rows["offset"].tolist() == [100 + at for at in range(12) if at not in bad]
    assert [reject.offset for reject in digested.rejects] == [100 + at for at in bad]
    for reject in digested.rejects:
        at = reject.offset - 100
        assert (reject.kind, reject.generation) == ("Quarantined", 4)
        assert (reject.raw, reject.key) == (batch.values[at], batch.keys[at])
        assert reject.message == "quarantine: it ended radar 3 times in a row, the limit is 2"
    counts = digested.counts
    assert (counts.read, counts.quarantined, counts.rejected) == (12, len(bad), 0)
    assert counts.residue() == 0
    assert worker.in_flight == BatchAt(partition_word(4, 0), 100)


def test_the_control_without_the_file_the_record_kills(tmp_path: Path) -> None:
    batch = good_batch(12)
    worker = Worker(tmp_path, poison=(ids_of(batch)[5],))
    digester = Digester(worker, 0, reducer(RADAR))
    with pytest.raises(KilledHereError):
        digester.digest(batch, OFFSETS, clock(), 1)
    assert worker.in_flight == BatchAt(partition_word(4, 0), 100)


def test_rows_that_kill_the_correlator_only_stay_rows(tmp_path: Path) -> None:
    quarantine(tmp_path, line(103, report=1))
    digester = Digester(Worker(tmp_path), 0, reducer(RADAR))
    digested = digester.digest(good_batch(12), OFFSETS, clock(), 1)
    assert len(digested.rows) == 12
    assert digested.rejects == []
    assert digested.counts.quarantined == 0


# --- found in a suspect life ---------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, 7, 39])
def test_a_suspect_life_names_the_first_deadly_record_and_ends(bad: int, tmp_path: Path) -> None:
    batch = good_batch(40)
    ids = ids_of(batch)
    worker = Worker(tmp_path, suspect=True, poison=(ids[bad], ids[39]))
    before = clock()
    with pytest.raises(SdaError, match=f"offset {100 + bad} of partition 0: KilledHereError: 1"):
        Digester(worker, 0, reducer(RADAR)).digest(batch, OFFSETS, before, 1)
    assert worker.in_flight == Culprit(0, 4, 0, 100 + bad)
    assert before.watermarks == {}, "the probe has changed nothing here"


def test_a_suspect_life_that_finds_nothing_goes_on_and_probes_no_more(tmp_path: Path) -> None:
    worker = Worker(tmp_path, suspect=True)
    digester = Digester(worker, 0, reducer(RADAR))
    for _ in range(2):
        assert len(digester.digest(good_batch(12), OFFSETS, clock(), 1).rows) == 12
        digester.done()
    assert worker.events == ["probing", "nothing_found"]
    assert worker.in_flight is None


def test_a_kill_from_outside_while_probing_names_nothing(tmp_path: Path) -> None:
    batch = good_batch(12)

    class Struck(Worker):
        def beat(self, _step: object) -> None:
            raise KeyboardInterrupt(signal.SIGKILL)  # the process itself, not its child

    worker = Struck(tmp_path, suspect=True)
    with pytest.raises(KeyboardInterrupt):
        Digester(worker, 0, reducer(RADAR)).digest(batch, OFFSETS, clock(), 1)
    assert worker.in_flight == BatchAt(partition_word(4, 0), 100)


def test_a_report_is_due_once_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    withheld = Withheld(worker)  # type: ignore[arg-type]
    assert withheld.due(0) == []
    first, second = line(103, report=1), line(101, report=2)
    quarantine(tmp_path, line(7), first, second)
    assert withheld.due(0) == [], "told by the board, not by looking"
    worker.board.set("radar.quarantined", 2)
    assert withheld.due(0) == [first, second]
    assert withheld.due(1) == [second]
    assert withheld.due(2) == []
