"""The adapter where a broker's log is not what it was: cut, made anew, damaged, refused."""

from __future__ import annotations

import ctypes
import secrets
from collections.abc import Callable
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from sda_pipeline.broker.port import Consumer, OffsetOutOfRange
from sda_pipeline.errors import Transient
from sda_pipeline.limits import MIB
from tests.contracts.broker_talk import drain, messages
from tests.kafka.test_kafka_adapter import LONG_S, consuming, lag_is, send, transaction
from tests.process.waiting import wait_until
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import QUIET, Topics
from tests.servers.server_fixtures import NewKafka

pytestmark = pytest.mark.kafka


def segment(kafka: KafkaServer, topic: str) -> Path:
    """The file of partition 0 of a topic with one."""
    (found,) = (kafka.directory / "node-1" / "logs" / f"{topic}-0").glob("*.log")
    return found


def filled(kafka: KafkaServer, count: int = 20) -> str:
    """A topic with so many messages in several batches."""
    topic = Topics(kafka).create(f"t-{secrets.token_hex(4)}")
    for first in range(0, count, 5):
        send(kafka, topic, messages(5, first))
    return topic


def cut_and_refill(kafka: KafkaServer, topic: str, refill: int) -> None:
    """The dead broker's disk lost half; then so much came that no old position is above it."""
    kafka.kill()
    with segment(kafka, topic).open("r+b") as file:
        file.truncate(segment(kafka, topic).stat().st_size // 2)
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
        assert consumer.lag() == {0: 0, 1: 0}
        topics.delete(topic)
        topics.create(topic)
        wait_until(lambda: lags(consumer) == {0: 0}, str)
        consumer.generation(0)
        consumer.seek(0, 0)
        topics.grow(topic, 2)
        assert consumer.partitions() == (0, 1)
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


# --- damaged, refused ---------------------------------------------------------------------------


def test_a_batch_with_a_wrong_checksum_is_told_with_what_to_do(new_kafka: NewKafka) -> None:
    kafka = new_kafka()
    topic = filled(kafka)
    path = segment(kafka, topic)
    at = path.read_bytes().index(messages(1, 12)[0].value)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"X")
    with consuming(kafka, topic) as consumer:
        assert drain(consumer, 10, most=10).values == [m.value for m in messages(10)]
        for _ in range(2):  # it is no word that is said once
            with pytest.raises(Transient, match=r"cannot consume .*; restore a replica, or delete"):
                consumer.consume(10, MIB, LONG_S)
            consumer.seek(0, 10)
        Topics(kafka).truncate(topic, 0, 15)
        with pytest.raises(OffsetOutOfRange):
            consumer.consume(10, MIB, LONG_S)
        consumer.seek(0, 15)
        assert len(drain(consumer, 5).values) == 5


def test_no_right_to_read_is_told(new_kafka: NewKafka) -> None:
    kafka = new_kafka(extra={
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    })  # fmt: skip
    topic = filled(kafka)
    allowed = AclBinding(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*",
        AclOperation.DESCRIBE, AclPermissionType.ALLOW,
    )  # fmt: skip
    admin = AdminClient({"bootstrap.servers": kafka.internal, **QUIET})
    for done in admin.create_acls([allowed]).values():
        done.result(LONG_S)
    with (
        consuming(kafka, topic) as consumer,
        pytest.raises(Transient, match=r"uthoriz.*; grant the right to read it"),
    ):
        consumer.consume(10, MIB, LONG_S)


def produce_with_header(kafka: KafkaServer, topic: str, name: bytes, value: bytes) -> None:
    """By the C library, as the Python client can only write names that are text."""
    (path,) = Path(confluent_kafka.__file__).parent.parent.glob(
        "confluent_kafka.libs/librdkafka*.so*"
    )
    lib = ctypes.CDLL(str(path))
    for made in (lib.rd_kafka_conf_new, lib.rd_kafka_new, lib.rd_kafka_headers_new):
        made.restype = ctypes.c_void_p
    text, number, size = ctypes.c_char_p, ctypes.c_int, ctypes.c_ssize_t
    conf, said = ctypes.c_void_p(lib.rd_kafka_conf_new()), ctypes.create_string_buffer(512)
    servers = kafka.bootstrap.encode()
    assert lib.rd_kafka_conf_set(conf, b"bootstrap.servers", servers, said, 512) == 0
    client = ctypes.c_void_p(lib.rd_kafka_new(0, conf, said, 512))
    headers = ctypes.c_void_p(lib.rd_kafka_headers_new(size(1)))
    lib.rd_kafka_header_add(headers, name, size(len(name)), b"v", size(1))
    topic_tag, value_tag, flags_tag, headers_tag, end = map(number, (1, 4, 7, 10, 0))
    failed = lib.rd_kafka_producev(
        client, topic_tag, text(topic.encode()), value_tag, text(value), size(len(value)),
        flags_tag, number(2), headers_tag, headers, end,
    )  # fmt: skip
    assert (failed, lib.rd_kafka_flush(client, 10_000)) == (0, 0)
    lib.rd_kafka_destroy(client)


def test_a_header_whose_name_is_no_text_costs_the_headers_only(
    kafka: KafkaServer, topic: str
) -> None:
    produce_with_header(kafka, topic, b"tr\xe9", b"value")
    send(kafka, topic, messages(1))
    with consuming(kafka, topic) as consumer:
        batch = drain(consumer, 2)
        assert batch.values == [b"value", messages(1)[0].value]
        assert batch.headers == []
