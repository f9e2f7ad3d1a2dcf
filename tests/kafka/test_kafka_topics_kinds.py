"""Topics of other kinds than the tests' own, through the adapter: compressed by producer or broker,
and with the broker's own timestamps.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping

import pytest
from confluent_kafka import Producer as Sender

from sda_pipeline.broker.connect import open_consumer, open_producer
from sda_pipeline.broker.kafka_settings import KafkaSettings
from sda_pipeline.broker.port import Consumer, OffsetOutOfRange, OutMessage
from sda_pipeline.clock import SystemClock
from sda_pipeline.limits import MIB
from tests.contracts.broker_talk import check_columns, drain, messages
from tests.kafka.kafka_talk import WITHIN_S
from tests.process.waiting import wait_until
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import QUIET, Topics

pytestmark = pytest.mark.kafka
SETTINGS = KafkaSettings(timeout_s=10.0)
CODECS = ("gzip", "snappy", "lz4", "zstd")
SIZE = 200  # of a value, most of it the same byte
COUNT, HALF, GONE = 4000, 2003, 2101  # all of it a few batches of the wire, cut in their middle


class Kinds:
    """Topics with settings, and the adapter's two ends of them."""

    def __init__(self, kafka: KafkaServer, topics: Topics) -> None:
        self.kafka, self.topics = kafka, topics
        self.url = f"kafka://{kafka.bootstrap}"
        self.opened: list[Consumer] = []

    def topic(self, **config: str) -> str:
        settings = {name.replace("_", "."): value for name, value in config.items()}
        return self.topics.create(f"kind-{secrets.token_hex(6)}", config=settings)

    def send(self, topic: str, sent: list[OutMessage]) -> None:
        """By the pipeline's own producer."""
        producer = open_producer(self.url, kafka=SETTINGS)
        producer.produce(topic, sent)
        producer.flush(WITHIN_S)
        producer.close()

    def send_compressed(self, topic: str, sent: list[OutMessage], codec: str) -> None:
        """By somebody else's, in large batches."""
        options: Mapping[str, str | int] = {"compression.type": codec, "linger.ms": 200}
        sender = Sender({**self.kafka.client(), **QUIET, **options})
        for key, value, timestamp_ms, headers in sent:
            sender.produce(topic, value, key, timestamp=timestamp_ms, headers=[*headers])
        assert sender.flush(WITHIN_S) == 0

    def stored(self, topic: str) -> int:
        """Bytes that the broker keeps of it, written or not yet."""
        files = (self.kafka.directory / "node-1" / "logs" / f"{topic}-0").glob("*.log")
        return sum(file.stat().st_size for file in files)

    def consumer(self, topic: str, offset: int = 0) -> Consumer:
        consumer = open_consumer(self.url, topic, "group", 1, kafka=SETTINGS)
        consumer.seek(0, offset)
        self.opened.append(consumer)
        return consumer


@pytest.fixture
def kinds(kafka: KafkaServer, topics: Topics) -> Iterator[Kinds]:
    kinds = Kinds(kafka, topics)
    yield kinds
    for consumer in kinds.opened:
        consumer.close()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("by", ["producer", "broker"])
def test_compressed_messages_come_as_they_were_sent(by: str, codec: str, kinds: Kinds) -> None:
    """From any offset, also one within a batch, and from where retention cut one."""
    topic = kinds.topic(compression_type="producer" if by == "producer" else codec)
    sent = messages(COUNT, size=SIZE)
    if by == "producer":
        kinds.send_compressed(topic, sent, codec)
    else:
        kinds.send(topic, sent)
    assert kinds.stored(topic) < COUNT * SIZE // 4
    consumer = kinds.consumer(topic)
    assert consumer.lag() == {0: COUNT}
    check_columns(drain(consumer, COUNT), sent)
    wait_until(lambda: consumer.lag() == {0: 0}, str)
    consumer.seek(0, HALF)
    batch = drain(consumer, COUNT - HALF)
    assert batch.offsets.tolist() == list(range(HALF, COUNT))
    check_columns(batch, sent[HALF:])
    kinds.topics.truncate(topic, 0, GONE)
    consumer.seek(0, HALF)
    with pytest.raises(OffsetOutOfRange, match=f"it holds offsets {GONE} to {COUNT}"):
        consumer.consume(10, MIB, WITHIN_S)
    consumer.seek(0, consumer.log_start(0))
    check_columns(drain(consumer, COUNT - GONE), sent[GONE:])


def test_the_broker_s_own_timestamps(kinds: Kinds) -> None:
    """The moment of appending is what there is then: what a record's event time is held against."""
    topic = kinds.topic(message_timestamp_type="LogAppendTime")
    sent = [OutMessage(b"k", b"%d" % n, 1000 + n, (("h", b"v"),)) for n in range(50)]
    clock = SystemClock()
    before = clock.wall_ns() // 10**6
    kinds.send(topic, sent)
    after = clock.wall_ns() // 10**6
    batch = drain(kinds.consumer(topic), len(sent))
    assert (batch.keys, batch.values) == ([b"k"] * 50, [message.value for message in sent])
    assert [tuple(headers) for headers in batch.headers] == [message.headers for message in sent]
    assert before <= batch.timestamps_ms.min() <= batch.timestamps_ms.max() <= after


def test_messages_without_key_or_value(kinds: Kinds) -> None:
    """What other producers may send: a tombstone, and nothing to choose a partition by."""
    topic = kinds.topic()
    sender = Sender({**kinds.kafka.client(), **QUIET})
    sender.produce(topic, b"v", timestamp=5)
    sender.produce(topic, None, b"k", timestamp=6, headers=[("h", None)])
    assert sender.flush(WITHIN_S) == 0
    batch = drain(kinds.consumer(topic), 2)
    found = zip(batch.timestamps_ms.tolist(), batch.keys, batch.values, batch.headers, strict=True)
    assert sorted(found) == [(5, b"", b"v", ()), (6, b"k", b"", (("h", b""),))]
