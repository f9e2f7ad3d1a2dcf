"""Answers of Kafka's client that are no errors and yet no answers: nothing is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import closing
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, TopicPartition

from sda_pipeline.broker.kafka import KafkaConsumer
from sda_pipeline.broker.kafka_admin import KafkaAdmin, TopicNow
from sda_pipeline.broker.kafka_group import Committed, KafkaGroup
from sda_pipeline.broker.kafka_settings import KafkaSettings
from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import Transient

NOWHERE = "127.0.0.1:9"
INVALID = -1001  # the client's word for "no offset"


def an_admin() -> KafkaAdmin:
    return KafkaAdmin(NOWHERE, KafkaSettings(), SystemClock())


class Offsets:
    """A client that lists the given offsets, by partition."""

    def __init__(self, offsets: Mapping[int, int]) -> None:
        self._offsets = offsets

    def list_offsets(
        self, asked: Mapping[TopicPartition, object], **_: object
    ) -> dict[TopicPartition, Future[SimpleNamespace]]:
        answers: dict[TopicPartition, Future[SimpleNamespace]] = {}
        for at in asked:
            answers[at] = Future()
            answers[at].set_result(SimpleNamespace(offset=self._offsets[at.partition]))
        return answers


@pytest.mark.parametrize("offset", [-1, INVALID])
def test_an_offset_that_is_none_is_silence(offset: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen from librdkafka 2.16 when its time ended beside a broker that had stopped."""
    admin = an_admin()
    monkeypatch.setattr(admin, "_client", Offsets({0: 40, 1: offset}))
    with pytest.raises(Transient, match="does not answer"):
        admin.ends("t", (0, 1))
    monkeypatch.setattr(admin, "_client", Offsets({0: 40, 1: 0}))
    assert admin.ends("t", (0, 1)) == {0: 40, 1: 0}


def test_a_description_without_a_partition_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = an_admin()
    answer: Future[SimpleNamespace] = Future()
    answer.set_result(SimpleNamespace(topic_id="id", partitions=[]))
    client = SimpleNamespace(describe_topics=lambda *_, **__: {"t": answer})
    monkeypatch.setattr(admin, "_client", client)
    with pytest.raises(Transient, match="does not answer"):
        admin.describe("t")


def test_partitions_of_one_topic_do_not_become_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that has not heard of the new ones yet would make them forgotten."""
    admin = an_admin()
    topics = (
        [TopicNow("id", (0, 1, 2))] * 4 + [TopicNow("id", (0, 1))] * 2 + [TopicNow("new", (0,))]
    )
    monkeypatch.setattr(admin, "describe", lambda _: topics.pop(0))
    with closing(KafkaConsumer(admin, "t", "group", SystemClock())) as consumer:
        assert consumer.partitions() == (0, 1, 2)
        for partition in range(3):
            consumer.seek(partition, 7)
        for _ in range(2):
            with pytest.raises(Transient, match="fewer partitions than before"):
                consumer.partitions()
        assert [consumer.position(partition) for partition in range(3)] == [7, 7, 7]
        assert consumer.partitions() == (0,), "made anew with fewer"


def committed(error: KafkaError | None) -> dict[int, Committed]:
    """What a group reads when the client says this of partition 1."""
    none = SimpleNamespace(partition=1, offset=INVALID, metadata=None, error=error)
    read = SimpleNamespace(partition=0, offset=7, metadata="life:7:3", error=None)
    client = SimpleNamespace(committed=lambda *_, **__: [read, none], close=lambda: None)
    with (
        closing(KafkaGroup(an_admin(), "group", "t")) as group,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(group, "_client", client)
        return group.committed((0, 1))


def test_what_could_not_be_read_is_not_taken_for_nothing_committed() -> None:
    assert committed(None) == {0: Committed(7, "life", 7, 3)}
    refused = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(Transient, match="ask for offsets in t"):
        committed(refused)
