"""The scripts that run Kafka, on the real one: it answers, is safe, survives, obeys."""

from __future__ import annotations

import pytest

from tests.kafka.conftest import NewKafka
from tests.kafka.kafka_talk import consume, produce
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import Topics

pytestmark = pytest.mark.kafka
VALUES = [b"one", b"two", b"three"]


def test_what_is_produced_is_consumed(kafka: KafkaServer, topics: Topics, topic: str) -> None:
    produce(kafka.client(), topic, VALUES)
    assert consume(kafka.client(), topic, 3) == VALUES
    assert topics.offsets(topic) == (0, 3)


def test_a_killed_broker_keeps_what_it_acknowledged(new_kafka: NewKafka) -> None:
    kafka = new_kafka()
    topic = Topics(kafka).create("kept")
    produce(kafka.client(), topic, VALUES)
    kafka.kill()
    assert not kafka.nodes[1].running
    kafka.start()
    produce(kafka.client(), topic, [b"four"])
    assert consume(kafka.client(), topic, 4) == [*VALUES, b"four"]
