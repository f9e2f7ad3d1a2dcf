"""Reading again what a source has consumed: originals come, however slow the broker is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from operators.core.batch import EMPTY
from operators.digest import Digester
from operators.lookback import Lookback
from operators.withheld import original
from sda_pipeline.broker.connect import open_consumer, open_producer
from sda_pipeline.broker.embedded import EmbeddedProducer
from sda_pipeline.broker.port import Batch, Consumer, OutMessage
from sda_pipeline.dlq.quarantine_file import Line
from sda_pipeline.errors import SdaError, Unreachable
from sda_pipeline.settings import RADAR
from tests.unit.observation_rig import reducer
from tests.unit.test_withheld import Worker, line, quarantine

TOPIC, GROUP, PARTITIONS = "sda.obs.radar", "g", 2


class Topic:
    """A topic of two partitions, 50 messages, consumed to its end."""

    def __init__(self, directory: Path) -> None:
        self.url = f"embedded:{directory}"
        self.producer = open_producer(self.url)
        self.producer.create_topic(TOPIC, PARTITIONS)
        self.produce(0, 50)
        self.consumer = open_consumer(self.url, TOPIC, GROUP, PARTITIONS)
        self.found = self.consume()
        self.trouble: list[Batch | SdaError] = []
        self.lookback = Lookback(lambda: open_consumer(self.url, TOPIC, GROUP, PARTITIONS))

    def produce(self, first: int, end: int) -> None:
        made = [OutMessage(b"%d" % n, b"value %d" % n, 1000 + n) for n in range(first, end)]
        self.producer.produce(TOPIC, made)

    def consume(self) -> list[tuple[bytes, int, int]]:
        found: list[tuple[bytes, int, int]] = []
        while (batch := self.consumer.consume(7, 1 << 20, 0.0)).values:
            places = zip(batch.partitions.tolist(), batch.offsets.tolist(), strict=True)
            found += [(v, p, o) for v, (p, o) in zip(batch.values, places, strict=True)]
        return found

    def close(self) -> None:
        self.lookback.close()
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
        reject = original(wanted, topic.lookback)
        assert reject is not None
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
    reject = original(wanted, topic.lookback)
    assert reject is not None
    assert reject.raw == b""
    assert reject.message.endswith("the broker no longer has its bytes")
    assert (reject.partition, reject.offset) == (wanted.partition, wanted.offset)


class Troubled:
    """A consumer that is slow, or cannot be reached, as often as it is told."""

    def __init__(self, consumer: Consumer, topic: Topic) -> None:
        self._consumer, self._topic = consumer, topic

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def consume(self, *bounds: Any) -> Batch:
        if not self._topic.trouble:
            return self._consumer.consume(*bounds)
        trouble = self._topic.trouble.pop()
        if isinstance(trouble, SdaError):
            raise trouble
        return trouble


AWAY = Unreachable("consume", "the broker is away")


@pytest.mark.parametrize("trouble", [[EMPTY] * 9, [AWAY] * 2, [EMPTY, AWAY, EMPTY]])
def test_a_slow_broker_is_asked_again_and_the_original_comes(trouble: list, topic: Topic) -> None:
    """A look that found nothing within 5 s was taken for proof that the bytes are gone."""
    seeks = []
    topic.trouble = [*trouble]

    def opened() -> Any:
        seeks.append("open")
        return Troubled(open_consumer(topic.url, TOPIC, GROUP, PARTITIONS), topic)

    lookback = Lookback(opened)
    value, partition, offset = topic.found[3]
    wanted = line(offset, report=1, partition=partition, generation=0)
    for _ in trouble:
        assert original(wanted, lookback) is None
    reject = original(wanted, lookback)
    assert reject is not None
    assert reject.raw == value
    assert len(seeks) == 1 + trouble.count(AWAY)
    lookback.close()


def test_a_report_waits_for_its_original(tmp_path: Path, topic: Topic) -> None:
    value, partition, offset = topic.found[3]
    quarantine(tmp_path, line(offset, report=1, partition=partition, generation=0))
    worker = Worker(tmp_path)
    worker.board.set("radar.quarantined", 1)
    topic.trouble = [EMPTY, EMPTY]
    digester = Digester(
        worker, 0, reducer(RADAR),  # type: ignore[arg-type]
        lambda: Troubled(open_consumer(topic.url, TOPIC, GROUP, PARTITIONS), topic),  # type: ignore[arg-type,return-value]
    )  # fmt: skip
    assert [digester.next_report(0), digester.next_report(0)] == [None, None]
    reject = digester.next_report(0)
    assert reject is not None
    assert reject.raw == value
    assert digester.next_report(1) is None
