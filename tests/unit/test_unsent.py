"""A Kafka client that fails within a batch, which no real one can be made to do on demand: what was
taken of the batch cannot be taken back, so nobody is ever told that all is well.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from sda_pipeline.broker.kafka_producer import KafkaProducer
from sda_pipeline.errors import SdaError, Transient
from tests.contracts.broker_talk import messages

FATAL = KafkaException(KafkaError(KafkaError._FATAL, "fenced"))


class Client:
    """Takes ``room`` messages, then raises ``error`` once; acknowledges what it took."""

    def __init__(self, room: int, error: Exception) -> None:
        self.room, self.error, self.taken = room, error, 0

    def __len__(self) -> int:
        return 0

    def produce(self, *_: object, **__: object) -> None:
        if self.taken == self.room:
            self.room = -1
            raise self.error
        self.taken += 1

    def poll(self, _timeout_s: float) -> int:
        return 0

    def flush(self, _timeout_s: float) -> int:
        return 0


def producer(client: Client) -> KafkaProducer:
    admin = SimpleNamespace(options={}, servers="host:1", make=lambda *_: client)
    return KafkaProducer(cast("Any", admin))


@pytest.mark.parametrize("error", [FATAL, BufferError("Local: Queue full")])
def test_a_client_that_fails_within_a_batch(error: Exception) -> None:
    client = Client(3, error)
    sender = producer(client)
    with pytest.raises(SdaError, match=r"cannot produce to t: (fenced|Local: Queue full)") as told:
        sender.produce("t", messages(5))
    assert not isinstance(told.value, Transient), "trying again would send three of them twice"
    assert client.taken == 3
    with pytest.raises(SdaError, match="after 3 of a batch were taken"):
        sender.flush(1.0)
    with pytest.raises(SdaError, match="after 3 of a batch were taken"):
        sender.produce("t", messages(1))
    assert client.taken == 3


def test_a_client_that_takes_none_of_a_batch_is_still_good() -> None:
    client = Client(0, FATAL)
    sender = producer(client)
    with pytest.raises(SdaError, match="cannot produce to t: fenced"):
        sender.produce("t", messages(5))
    sender.produce("t", messages(2))
    sender.flush(1.0)
    assert client.taken == 2
