"""The few words that smoke tests say to a broker; not the pipeline's adapter."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from tests.servers.kafka_topics import QUIET

WITHIN_S = 30.0


def produce(client: Mapping[str, str], topic: str, values: Sequence[bytes]) -> None:
    """Write to partition 0, every message acknowledged by all replicas."""
    refused: list[str] = []

    def delivered(error: object, _message: Message) -> None:
        if error is not None:
            refused.append(str(error))

    producer = Producer({**client, **QUIET, "enable.idempotence": True})
    for value in values:
        producer.produce(topic, value, partition=0, on_delivery=delivered)
    left = producer.flush(WITHIN_S)
    assert (left, refused) == (0, [])


def abort(client: Mapping[str, str], topic: str, values: Sequence[bytes]) -> None:
    """Write to partition 0 in a transaction, and take it back once the broker has it all."""
    producer = Producer({**client, **QUIET, "transactional.id": secrets.token_hex(8)})
    producer.init_transactions(WITHIN_S)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(WITHIN_S) == 0
    producer.abort_transaction(WITHIN_S)


def consume(client: Mapping[str, str], topic: str, count: int, offset: int = 0) -> list[bytes]:
    """The next ``count`` values of partition 0 from an offset."""
    consumer = Consumer({**client, **QUIET, "group.id": "smoke", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, offset)])
    try:
        found = consumer.consume(count, WITHIN_S)
    finally:
        consumer.close()
    assert [m.error() for m in found if m.error()] == []
    return [m.value() for m in found]
