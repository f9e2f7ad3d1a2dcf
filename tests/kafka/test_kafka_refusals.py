"""The adapter where a broker gives no messages: damaged batches, no right to read; and headers that
are no text.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

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

from sda_pipeline.broker.kafka import STALLED_NS
from sda_pipeline.broker.kafka_fetch import KafkaFetch
from sda_pipeline.broker.port import OffsetOutOfRange
from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import Transient
from sda_pipeline.limits import MIB
from tests.contracts.broker_talk import drain, messages
from tests.kafka.kafka_site import segment
from tests.kafka.test_kafka_adapter import LONG_S, consuming, lag_is, send, transaction
from tests.kafka.test_kafka_damage import filled
from tests.process.waiting import wait_until
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import QUIET, Topics
from tests.servers.server_fixtures import NewKafka

pytestmark = pytest.mark.kafka


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


class HastyClock(SystemClock):
    """The time of day, and so much more."""

    ahead_ns = 0

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.ahead_ns


def test_a_client_that_brings_nothing_though_something_waits_is_made_anew(
    kafka: KafkaServer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may ask a leader of the past. Here an open transaction holds things back."""
    made: list[KafkaFetch] = []

    class Counted(KafkaFetch):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr("sda_pipeline.broker.kafka.KafkaFetch", Counted)
    clock = HastyClock()
    with consuming(kafka, topic, clock=clock) as consumer:
        wait_until(lambda: lag_is(consumer, 0), str)
        clock.ahead_ns += STALLED_NS
        assert lag_is(consumer, 0)
        assert len(made) == 1, "nothing waits"
        sender = transaction(kafka, topic, [b"a", b"b"])
        assert lag_is(consumer, 2)
        clock.ahead_ns += 2 * STALLED_NS
        assert consumer.lag() == {0: 2}
        assert consumer.consume(10, MIB, 0.0).values == []
        assert len(made) == 2
        sender.commit_transaction(LONG_S)
        assert drain(consumer, 2).values == [b"a", b"b"]
        assert len(made) == 2


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
