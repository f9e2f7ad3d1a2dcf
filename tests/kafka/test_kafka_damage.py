"""The adapter where a broker's log is not what it was: cut, made anew, shortened."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest

from sda_pipeline.broker.port import Consumer, OffsetOutOfRange
from sda_pipeline.errors import Transient
from sda_pipeline.limits import MIB
from tests.contracts.broker_talk import drain, messages
from tests.kafka.kafka_site import cut_segment
from tests.kafka.test_kafka_adapter import LONG_S, consuming, lag_is, send, transaction
from tests.process.waiting import wait_until
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import Topics
from tests.servers.server_fixtures import NewKafka

pytestmark = pytest.mark.kafka


def filled(kafka: KafkaServer, count: int = 20) -> str:
    """A topic with so many messages in several batches."""
    topic = Topics(kafka).create(f"t-{secrets.token_hex(4)}")
    for first in range(0, count, 5):
        send(kafka, topic, messages(5, first))
    return topic


def cut_and_refill(kafka: KafkaServer, topic: str, refill: int) -> None:
    """The dead broker's disk lost half; then so much came that no old position is above it."""
    kafka.kill()
    cut_segment(kafka, topic, 0.5)
    kafka.start()
    wait_until(lambda: Topics(kafka).leaders(topic), str)
    send(kafka, topic, messages(refill, 1000))


def consume_until_it_raises(consumer: Consumer) -> list[bytes]:
    """What came before OffsetOutOfRange; an outage is waited for."""
    got: list[bytes] = []
    while True:
        try:
            got += consumer.consume(10, MIB, 0.1).values
            consumer.lag()  # as a source does: it tells that the topic is another one
        except Transient:
            continue
        except OffsetOutOfRange:
            return got


# --- cut ----------------------------------------------------------------------------------------


def unmoved(_consumer: Consumer) -> None:
    """It fetches on."""


def sought(consumer: Consumer) -> None:
    """As after every outage."""
    consumer.seek(0, 20)


@pytest.mark.parametrize("then", [unmoved, sought])
def test_a_partition_cut_and_filled_again_past_the_position_is_out_of_range(
    new_kafka: NewKafka, then: Callable[[Consumer], None]
) -> None:
    kafka = new_kafka()
    topic = filled(kafka)
    with consuming(kafka, topic) as consumer:
        drain(consumer, 20)
        cut_and_refill(kafka, topic, 40)
        then(consumer)
        assert consume_until_it_raises(consumer) == [], "nothing of another history"
        consumer.seek(0, 0)
        assert len(drain(consumer, 50).values) == 50


def filled_by_transactions(kafka: KafkaServer) -> str:
    """The same, with four ends of transactions between; offsets up to 24."""
    topic = Topics(kafka).create(f"t-{secrets.token_hex(4)}")
    for first in range(0, 20, 5):
        values = [message.value for message in messages(5, first)]
        transaction(kafka, topic, values).commit_transaction(LONG_S)
    return topic


@pytest.mark.parametrize("fill", [filled, filled_by_transactions])
def test_the_next_process_knows_it_by_what_the_last_one_committed(
    new_kafka: NewKafka, fill: Callable[[KafkaServer], str]
) -> None:
    kafka = new_kafka()
    topic = fill(kafka)
    end = Topics(kafka).offsets(topic)[1]
    with consuming(kafka, topic) as consumer:
        drain(consumer, 20)
        wait_until(lambda: lag_is(consumer, 0), str)
        assert consumer.position(0) == end
        consumer.commit({0: end})
        assert consumer.committed() == {0: end}
        cut_and_refill(kafka, topic, 60)
        consumer.seek(0, end)
        assert consume_until_it_raises(consumer) == []
    with consuming(kafka, topic) as consumer:
        consumer.seek(0, end)
        assert consume_until_it_raises(consumer) == []


def test_what_is_known_of_a_position_is_not_of_another(kafka: KafkaServer) -> None:
    """It was at the end in between; what lies before it still comes."""
    topic = filled(kafka)
    with consuming(kafka, topic) as consumer:
        drain(consumer, 5, most=5)
        consumer.seek(0, 20)
        wait_until(lambda: lag_is(consumer, 0), str)
        consumer.seek(0, 15)
        assert (consumer.position(0), consumer.lag()) == (15, {0: 5})
        assert drain(consumer, 5).offsets.tolist() == [15, 16, 17, 18, 19]


def test_a_restart_alone_cuts_nothing(new_kafka: NewKafka) -> None:
    """The negative: leaders change, and every position stays good."""
    kafka = new_kafka()
    topic = filled(kafka)
    with consuming(kafka, topic) as consumer:
        drain(consumer, 10, most=10)
        for first in (1000, 1010):
            kafka.kill()
            kafka.start()
            send(kafka, topic, messages(10, first))
            consumer.seek(0, consumer.position(0))
            drain(consumer, 10, most=10)
        assert consumer.position(0) == 30
        consumer.commit({0: 30})
    with consuming(kafka, topic) as consumer:
        consumer.seek(0, 30)
        assert len(drain(consumer, 10).values) == 10


# --- made anew ----------------------------------------------------------------------------------


def test_a_topic_made_anew_after_a_leader_change_is_read(new_kafka: NewKafka) -> None:
    """The new one's leader begins with a lower epoch than the old one's had."""
    kafka = new_kafka()
    topic = filled(kafka)
    topics = Topics(kafka)
    for _ in range(2):
        kafka.kill()
        kafka.start()
    with consuming(kafka, topic) as consumer:
        drain(consumer, 20)
        topics.delete(topic)
        topics.create(topic)
        send(kafka, topic, messages(5, 1000))
        consume_until_it_raises(consumer)
        consumer.generation(0)
        consumer.seek(0, 0)
        assert drain(consumer, 5).values == [message.value for message in messages(5, 1000)]


def lags(consumer: Consumer) -> dict[int, int] | None:
    """None while the cluster does not know the topic everywhere."""
    try:
        return consumer.lag()
    except Transient:
        return None


def test_a_partition_that_was_gone_and_is_there_again_is_another(
    kafka: KafkaServer, topics: Topics
) -> None:
    topic = topics.create(f"t-{secrets.token_hex(4)}", 2)
    with consuming(kafka, topic) as consumer:
        consumer.seek(1, 0)
        wait_until(lambda: lags(consumer) == {0: 0, 1: 0}, str)
        topics.delete(topic)
        topics.create(topic)
        wait_until(lambda: lags(consumer) == {0: 1}, str)  # another 0: not sought yet
        consumer.generation(0)
        consumer.seek(0, 0)
        topics.grow(topic, 2)
        assert consumer.partitions() == (0, 1)
        wait_until(lambda: lags(consumer) == {0: 0, 1: 1}, str)  # the log of 1 is there as well
        with pytest.raises(OffsetOutOfRange) as raised:
            consumer.consume(10, MIB, LONG_S)
        assert raised.value.partition == 1
        consumer.generation(1)
        consumer.seek(1, 0)
        assert consumer.consume(10, MIB, 0.1).values == []


# --- what will never come -----------------------------------------------------------------------


def test_retention_of_aborted_messages_leaves_nothing_missing(
    kafka: KafkaServer, topic: str, topics: Topics
) -> None:
    send(kafka, topic, messages(10))
    transaction(kafka, topic, [b"no"] * 50).abort_transaction(LONG_S)
    with consuming(kafka, topic) as consumer:
        drain(consumer, 10)
        wait_until(lambda: lag_is(consumer, 0), str)
        assert consumer.position(0) == topics.offsets(topic)[1] == 61
        topics.truncate(topic, 0, 61)
        consumer.seek(0, consumer.position(0))
        send(kafka, topic, messages(5, 10))
        assert len(drain(consumer, 5).values) == 5
