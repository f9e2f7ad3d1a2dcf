"""Quarantined records at their source: withheld, found, fetched again; every one counted once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from operators.core.offsets import Offsets
from operators.core.watermark import EventClock
from operators.digest import Digester
from operators.withheld import Withheld, original
from sda_pipeline.broker.connect import open_consumer, open_producer
from sda_pipeline.broker.embedded import EmbeddedProducer
from sda_pipeline.broker.port import Batch, Consumer, OutMessage
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

TOPIC, GROUP, PARTITIONS = "sda.obs.radar", "g", 2
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


# --- fetched again for the report ----------------------------------------------------------------


class Topic:
    """A topic of two partitions, 50 messages, consumed to its end."""

    def __init__(self, directory: Path) -> None:
        self.url = f"embedded:{directory}"
        self.producer = open_producer(self.url)
        self.producer.create_topic(TOPIC, PARTITIONS)
        self.produce(0, 50)
        self.consumer = open_consumer(self.url, TOPIC, GROUP, PARTITIONS)
        self.found = self.consume()
        self.ends: dict[int, int] = {}
        for _, partition, offset in self.found:
            self.ends[partition] = offset + 1
        self.put_back_calls = 0

    def produce(self, first: int, end: int) -> None:
        made = [OutMessage(b"%d" % n, b"value %d" % n, 1000 + n) for n in range(first, end)]
        self.producer.produce(TOPIC, made)

    def consume(self) -> list[tuple[bytes, int, int]]:
        found: list[tuple[bytes, int, int]] = []
        while (batch := self.consumer.consume(7, 1 << 20, 0.0)).values:
            places = zip(batch.partitions.tolist(), batch.offsets.tolist(), strict=True)
            found += [(v, p, o) for v, (p, o) in zip(batch.values, places, strict=True)]
        return found

    def put_back(self, partition: int) -> None:
        self.put_back_calls += 1
        self.consumer.seek(partition, self.ends[partition])

    def close(self) -> None:
        self.consumer.close()
        self.producer.close()


@pytest.fixture
def topic(tmp_path: Path) -> Iterator[Topic]:
    made = Topic(tmp_path / "broker")
    yield made
    made.close()


def test_every_original_comes_back_and_the_stream_goes_on_where_it_was(topic: Topic) -> None:
    assert {partition for _, partition, _ in topic.found} == {0, 1}
    topic.produce(50, 60)  # not consumed yet: must not be lost, nor mistaken for the original
    for value, partition, offset in topic.found:
        wanted = line(offset, report=1, partition=partition, generation=0)
        reject = original(wanted, topic.consumer, topic.ends, topic.put_back)
        assert (reject.raw, reject.partition, reject.offset) == (value, partition, offset)
        assert (reject.kind, reject.key) == ("Quarantined", value.removeprefix(b"value "))
        assert reject.timestamp_ms == 1000 + int(reject.key)
    assert sorted(value for value, _, _ in topic.consume()) == [
        b"value %d" % n for n in range(50, 60)
    ]


def recreated(topic: Topic) -> Line:
    assert isinstance(topic.producer, EmbeddedProducer)
    topic.producer.recreate_topic(TOPIC)
    return line(3, report=1, generation=0)


GONE: dict[str, Callable[[Topic], Line]] = {
    "another generation": recreated,
    "beyond the end": lambda topic: line(10**6, report=1, generation=0),
    "no such partition": lambda topic: line(0, report=1, partition=9, generation=0),
}


@pytest.mark.parametrize("how", GONE)
def test_an_original_the_broker_no_longer_has_is_said_to_be_gone(how: str, topic: Topic) -> None:
    wanted = GONE[how](topic)
    reject = original(wanted, topic.consumer, topic.ends, topic.put_back)
    assert reject.raw == b""
    assert reject.message.endswith("the broker no longer has its bytes")
    assert (reject.partition, reject.offset) == (wanted.partition, wanted.offset)
    assert topic.put_back_calls == len(topic.ends)


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


def test_a_failing_broker_leaves_the_positions_as_they_were(topic: Topic) -> None:
    class Failing:
        def __getattr__(self, name: str) -> Any:
            if name == "consume":
                raise SdaError("consume", "the broker is away")
            return getattr(topic.consumer, name)

    broken: Consumer = Failing()  # type: ignore[assignment]
    with pytest.raises(SdaError, match="away"):
        original(line(3, report=1, generation=0), broken, topic.ends, topic.put_back)
    topic.produce(50, 53)
    assert len(topic.consume()) == 3
