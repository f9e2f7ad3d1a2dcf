"""The adapter on the real Kafka, beyond the contract: transactions, retention, size, outages."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer as Client
from confluent_kafka import Producer as Sender

from sda_pipeline.broker.connect import open_consumer, open_producer
from sda_pipeline.broker.kafka_settings import KafkaSettings
from sda_pipeline.broker.port import Consumer, OffsetOutOfRange, OutMessage
from sda_pipeline.clock import Clock, SystemClock
from sda_pipeline.errors import SdaError, Transient
from sda_pipeline.limits import MIB
from tests.contracts.broker_talk import drain, messages
from tests.process.waiting import wait_until
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import QUIET, Topics
from tests.servers.server_fixtures import NewKafka

pytestmark = pytest.mark.kafka
LONG_S = 20.0
PATIENT = KafkaSettings(timeout_s=10.0)


@contextmanager
def consuming(
    kafka: KafkaServer, topic: str, settings: KafkaSettings = PATIENT, clock: Clock | None = None
) -> Iterator[Consumer]:
    url = f"kafka://{kafka.bootstrap}"
    consumer = open_consumer(url, topic, "group", 1, clock, kafka=settings)
    consumer.seek(0, 0)  # as a source does; nobody waits for the group's coordinator
    try:
        yield consumer
    finally:
        consumer.close()


def send(kafka: KafkaServer, topic: str, sent: list[OutMessage]) -> None:
    producer = open_producer(f"kafka://{kafka.bootstrap}", kafka=PATIENT)
    producer.produce(topic, sent)
    producer.flush(LONG_S)
    producer.close()


def lag_is(consumer: Consumer, wanted: int) -> bool:
    """Consumes nothing but the news that there is nothing."""
    assert consumer.consume(10, MIB, 0.0).values == []
    return consumer.lag() == {0: wanted}


def consume_on(consumer: Consumer, got: list[bytes]) -> None:
    """Until something is raised."""
    while True:
        got += consumer.consume(10, MIB, 0.1).values
        consumer.lag()


# --- transactions -------------------------------------------------------------------------------


def transaction(kafka: KafkaServer, topic: str, values: list[bytes]) -> Sender:
    """An open one that the broker has the messages of."""
    sender = Sender({**kafka.client(), **QUIET, "transactional.id": secrets.token_hex(8)})
    sender.init_transactions(LONG_S)
    sender.begin_transaction()
    for value in values:
        sender.produce(topic, value)
    assert sender.flush(LONG_S) == 0
    return sender


def test_the_end_of_a_transaction_is_no_lag(kafka: KafkaServer, topic: str, topics: Topics) -> None:
    with consuming(kafka, topic) as consumer:
        transaction(kafka, topic, [b"a", b"b"]).commit_transaction(LONG_S)
        assert drain(consumer, 2).offsets.tolist() == [0, 1]
        assert topics.offsets(topic) == (0, 3), "the third is its end"
        wait_until(lambda: lag_is(consumer, 0), str)


def test_aborted_messages_leave_gaps_and_no_lag(kafka: KafkaServer, topic: str) -> None:
    with consuming(kafka, topic) as consumer:
        send(kafka, topic, messages(2))
        transaction(kafka, topic, [b"no"] * 5).abort_transaction(LONG_S)
        send(kafka, topic, messages(2, 2))
        batch = drain(consumer, 4)
        assert batch.offsets.tolist() == [0, 1, 8, 9]
        assert batch.values == [message.value for message in messages(4)]
        transaction(kafka, topic, [b"no"] * 5).abort_transaction(LONG_S)
        wait_until(lambda: lag_is(consumer, 0), str)


def test_an_open_transaction_is_lag(kafka: KafkaServer, topic: str) -> None:
    """Else what waits behind it would be late when it comes."""
    with consuming(kafka, topic) as consumer:
        wait_until(lambda: lag_is(consumer, 0), str)
        sender = transaction(kafka, topic, [b"a", b"b"])
        send(kafka, topic, messages(3))
        assert lag_is(consumer, 5)
        sender.commit_transaction(LONG_S)
        assert len(drain(consumer, 5).values) == 5
        wait_until(lambda: lag_is(consumer, 0), str)


# --- what the broker keeps ----------------------------------------------------------------------


def test_what_retention_took_is_out_of_range(
    kafka: KafkaServer, topic: str, topics: Topics
) -> None:
    send(kafka, topic, messages(50))
    with consuming(kafka, topic) as consumer:
        drain(consumer, 10, most=10)
        topics.truncate(topic, 0, 30)
        consumer.seek(0, 10)  # it may hold fetched ones
        with pytest.raises(OffsetOutOfRange, match="from offset 10: it holds offsets 30 to 50"):
            consumer.consume(10, MIB, LONG_S)
        consumer.seek(0, consumer.log_start(0))
        assert drain(consumer, 20).offsets.tolist() == list(range(30, 50))


def test_a_recreated_topic_is_noticed_with_messages_at_the_same_offsets(
    kafka: KafkaServer, topic: str, topics: Topics
) -> None:
    send(kafka, topic, messages(50))
    with consuming(kafka, topic) as consumer:
        drain(consumer, 10, most=10)
        topics.delete(topic)
        topics.create(topic)
        send(kafka, topic, messages(80, 1000))
        old: list[bytes] = []
        with pytest.raises(OffsetOutOfRange):
            consume_on(consumer, old)
        assert all(int(value[:8]) < 1000 for value in old)
        generation = consumer.generation(0)
        consumer.seek(0, 0)
        assert drain(consumer, 80).values[0] == messages(1, 1000)[0].value
        assert consumer.generation(0) == generation


def test_a_topic_recreated_with_fewer_partitions(kafka: KafkaServer, topics: Topics) -> None:
    topic = topics.create(f"fewer-{secrets.token_hex(4)}", 3)
    send(kafka, topic, messages(60))
    with consuming(kafka, topic) as consumer:
        for partition in (1, 2):
            consumer.seek(partition, 0)
        drain(consumer, 60)
        topics.delete(topic)
        topics.create(topic)
        send(kafka, topic, messages(80, 1000))
        with pytest.raises(OffsetOutOfRange):
            consume_on(consumer, [])
        assert consumer.partitions() == (0,)
        consumer.seek(0, consumer.log_start(0))
        assert len(drain(consumer, 80).values) == 80
        assert consumer.lag() == {0: 0}
        consumer.commit({0: 80, 1: 20, 2: 20})


def test_messages_larger_than_every_limit_come_alone(kafka: KafkaServer, topics: Topics) -> None:
    topic = topics.create(
        f"large-{secrets.token_hex(4)}", config={"max.message.bytes": str(64 * MIB)}
    )
    large = OutMessage(b"k", secrets.token_bytes(30 * MIB), 5)
    send(kafka, topic, [*messages(3), large, *messages(3, 3)])
    with consuming(kafka, topic) as consumer:
        got: list[bytes] = []
        while len(got) < 7:
            batch = consumer.consume(100, 4 * MIB, LONG_S)
            assert sum(map(len, batch.values)) <= 4 * MIB or len(batch.values) == 1
            got += batch.values
        assert got == [m.value for m in [*messages(3), large, *messages(3, 3)]]


def test_what_the_broker_refuses_is_an_error_not_a_loss(kafka: KafkaServer, topic: str) -> None:
    producer = open_producer(f"kafka://{kafka.bootstrap}", kafka=PATIENT)
    producer.produce(topic, [OutMessage(b"k", bytes(2 * MIB), 5)])
    with pytest.raises(SdaError, match=r"cannot produce to Kafka: .*large"):
        producer.flush(LONG_S)
    producer.close()


# --- others in the group ------------------------------------------------------------------------


def test_a_member_of_the_same_group_stops_commits_only(kafka: KafkaServer, topic: str) -> None:
    member = Client({**kafka.client(), **QUIET, "group.id": "group"})
    member.subscribe([topic])
    joined: list[object] = []
    wait_until(
        lambda: member.poll(0.1) is not None or bool(joined) or bool(member.assignment()), str
    )
    send(kafka, topic, messages(20))
    with consuming(kafka, topic) as consumer:
        assert len(drain(consumer, 20).values) == 20
        with pytest.raises(Transient, match="cannot commit offsets"):
            consumer.commit({0: 20})
        member.close()
        consumer.commit({0: 20})
        assert consumer.committed() == {0: 20}


# --- outages ------------------------------------------------------------------------------------


def test_an_outage_is_transient_and_nothing_is_lost(new_kafka: NewKafka) -> None:
    kafka = new_kafka()
    topic = Topics(kafka).create("t")
    settings = KafkaSettings(timeout_s=1.0)
    producer = open_producer(f"kafka://{kafka.bootstrap}", kafka=settings)
    producer.produce(topic, messages(50))
    producer.flush(LONG_S)
    with consuming(kafka, topic, settings) as consumer:
        got = drain(consumer, 10, most=10).values  # the others are fetched, not handed out
        kafka.kill()
        producer.produce(topic, messages(50, 50))
        clock = SystemClock()
        began = clock.monotonic_ns()
        with pytest.raises(Transient, match=r"cannot ask for .*: Kafka at .* does not answer"):
            consume_on(consumer, got)
        with pytest.raises(Transient, match=r"does not answer|the last commit"):
            consumer.commit({0: 10})
        with pytest.raises(Transient, match=r"50 messages are not acknowledged after 0.1 s"):
            producer.flush(0.1)
        assert clock.monotonic_ns() - began < 20e9, "every call is bounded"
        kafka.start()
        producer.flush(LONG_S)
        while len(got) < 100:
            try:
                got += consumer.consume(10, MIB, 0.1).values
            except Transient:
                continue
        assert got == [message.value for message in messages(100)]
    producer.close()


def test_a_silent_broker_is_an_outage_too(new_kafka: NewKafka) -> None:
    kafka = new_kafka()
    topic = Topics(kafka).create("t")
    send(kafka, topic, messages(50))
    with consuming(kafka, topic, KafkaSettings(timeout_s=0.5)) as consumer:
        got = drain(consumer, 10, most=10).values
        kafka.pause()
        for _ in range(3):
            with pytest.raises(Transient, match="does not answer"):
                consumer.lag()
        kafka.resume()
        while len(got) < 50:
            try:
                got += consumer.consume(10, MIB, 0.1).values
            except Transient:
                continue
        assert got == [message.value for message in messages(50)]
