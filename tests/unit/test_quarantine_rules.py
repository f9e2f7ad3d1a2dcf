"""Quarantine at the supervisor: words of the dead are read once, culprits written and told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sda_pipeline.clock import ManualClock
from sda_pipeline.dlq.quarantine_file import NAME, read_quarantine
from sda_pipeline.errors import StateCorrupt
from sda_pipeline.runtime.in_flight import BatchAt, Culprit, InFlight
from supervisor.events import Event
from supervisor.members import Note
from supervisor.quarantine import Quarantine
from supervisor.quiescence import delivered, watched_words
from supervisor.suspicion import NOBODY, Blame
from supervisor.wiring import Wiring
from tests.unit.topology_rig import repository_topology

BATCH = BatchAt(1, 70)


class Rig:
    """A board, the state directory, and one supervisor's quarantine after the other."""

    def __init__(self, state: Path) -> None:
        self.topology = replace(repository_topology(), state=state)
        self.wiring = Wiring(self.topology)
        self.notes: list[Note] = []
        self.start()

    def start(self) -> None:
        clock = ManualClock(wall_ns=1_795_435_200 * 10**9)
        self.quarantine = Quarantine(self.topology, self.wiring, clock, self.notes.append)

    def die(self, name: str, at: BatchAt | Culprit | None, *, wanted: bool = False) -> Blame:
        words = InFlight(self.wiring.board, name)
        match at:
            case BatchAt():
                words.batch(at)
            case Culprit():
                words.culprit(at)
        return self.quarantine.died(name, 1, wanted=wanted)

    def lines(self) -> list[tuple[str, str, int, int]]:
        found = read_quarantine(self.topology.state / NAME)
        return [(line.operator, line.source, line.offset, line.report) for line in found]

    def events(self) -> list[Event]:
        return [note.event for note in self.notes]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.wiring.close()


def culprit(offset: int, source: int = 0) -> Culprit:
    return Culprit(source, generation=1, partition=2, offset=offset)


def test_a_record_is_locked_away_and_its_source_told(rig: Rig) -> None:
    assert rig.die("correlator", BATCH) == Blame(1)
    assert not rig.quarantine.suspects("correlator")
    assert rig.die("correlator", BATCH) == Blame(2)
    assert rig.quarantine.suspects("correlator")
    assert rig.die("correlator", culprit(7)) == Blame(3, named=True)
    assert rig.lines() == [("correlator", "radar", 7, 1)]
    assert rig.wiring.board.get("radar.quarantined") == 1
    assert rig.events() == [Event.IN_FLIGHT, Event.IN_FLIGHT, Event.SUSPECT, Event.IN_FLIGHT,
                            Event.QUARANTINED]  # fmt: skip
    line = read_quarantine(rig.topology.state / NAME)[0]
    assert (line.at, line.deaths, line.coordinates) == ("2026-11-23T12:00:00.000Z", 3, (1, 2, 7))


def test_what_kills_its_own_source_needs_no_report(rig: Rig) -> None:
    rig.die("radar", culprit(7))
    rig.die("correlator", culprit(8, source=1))
    rig.die("correlator", culprit(9, source=1))
    assert rig.lines() == [
        ("radar", "radar", 7, 0), ("correlator", "optical", 8, 1), ("correlator", "optical", 9, 2),
    ]  # fmt: skip
    board = rig.wiring.board
    assert (board.get("radar.quarantined"), board.get("optical.quarantined")) == (0, 2)


def test_words_are_read_once_and_cleared(rig: Rig) -> None:
    assert rig.die("radar", BATCH) == Blame(1)
    assert rig.die("radar", None) is NOBODY
    assert rig.events() == [Event.IN_FLIGHT]


def test_a_wanted_death_says_nothing_unless_it_names_a_record(rig: Rig) -> None:
    for _ in range(5):
        assert rig.die("radar", BATCH, wanted=True) is NOBODY
    assert not rig.quarantine.suspects("radar")
    assert rig.die("radar", culprit(7), wanted=True).named
    assert len(rig.lines()) == 1


@pytest.mark.parametrize(
    ("name", "word"), [("radar", "radar.log_end"), ("correlator", "isl.applied")]
)
def test_progress_ends_the_row(name: str, word: str, rig: Rig) -> None:
    rig.die(name, BATCH)
    rig.wiring.board.set(word, 1)
    assert rig.die(name, BATCH) == Blame(1)


def test_another_supervisor_goes_on_with_the_file(rig: Rig) -> None:
    rig.die("correlator", culprit(7))
    rig.wiring.board.set("radar.quarantined", 0)
    with (rig.topology.state / NAME).open("ab") as file:
        file.write(b'{"schema_version":1,"torn')
    rig.start()
    assert rig.events()[-1] is Event.QUARANTINE_REPAIRED
    assert rig.wiring.board.get("radar.quarantined") == 1
    rig.die("correlator", culprit(8))
    assert [report for *_, report in rig.lines()] == [1, 2]


def test_numbers_go_on_when_the_file_was_moved_away(rig: Rig) -> None:
    rig.die("correlator", culprit(7))
    (rig.topology.state / NAME).unlink()
    rig.wiring.board.set("radar.reported", 1)  # the source has logged it
    rig.start()
    rig.die("correlator", culprit(8))
    assert rig.lines() == [("correlator", "radar", 8, 2)], "a source reports what is above 1"


def test_a_damaged_file_is_refused(rig: Rig) -> None:
    (rig.topology.state / NAME).write_bytes(b"{}\n")
    with pytest.raises(StateCorrupt, match=r"line 1 does not match its CRC; put the file back"):
        rig.start()


def test_a_run_is_not_over_before_the_skipped_row_is_reported(rig: Rig) -> None:
    sources = rig.topology.sources
    words = dict.fromkeys(watched_words(sources), 0)
    assert delivered(words, sources)
    assert not delivered(words | {"radar.quarantined": 1}, sources)
    assert delivered(words | {"radar.quarantined": 1, "radar.reported": 1}, sources)
