"""A Kafka producer behind the port: idempotent, every message acknowledged by all replicas in sync.

A message waits inside the client while the cluster is away, in order; ``flush`` says when all of it
is durable. Once one was lost for good, it says so for ever: a new producer begins anew. Not the
consumer.
"""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from sda_pipeline.broker.kafka_admin import KafkaAdmin
from sda_pipeline.broker.kafka_settings import (
    HELD_BYTES_MAX,
    UNSENT_BYTES,
    UNSENT_MESSAGES,
    producer_options,
)
from sda_pipeline.broker.port import OutMessage
from sda_pipeline.errors import SdaError, Transient

HINT = "correct what it says and send it again"
ROOM_WITHIN_S = 0.5  # so long a full client is given to send something before it is Transient


class KafkaProducer:
    """Writes to any topic of one cluster. See ``port.Producer``."""

    def __init__(self, admin: KafkaAdmin) -> None:
        self._admin = admin
        self._client = admin.make(Producer, admin.options | producer_options())
        self._unsent_bytes, self._closed = 0, False
        self._lost = ""  # why a message is not and will not be at the cluster

    def create_topic(self, topic: str, partitions: int) -> None:
        """With retention off: a recording's timestamps may be older than any retention."""
        self._admin.create(topic, partitions)
        try:  # so that the client knows of new partitions at once
            self._client.list_topics(topic, self._admin.settings.timeout_s)
        except KafkaException as error:
            raise Transient(f"create topic {topic}", error.args[0].str()) from error

    def produce(self, topic: str, messages: Sequence[OutMessage]) -> None:
        """Hands over; Transient when the client is full because the cluster takes nothing.

        SdaError when an earlier message was refused for good, or none of these can be taken.
        """
        size = sum(len(message.key) + len(message.value) for message in messages)
        if len(messages) > UNSENT_MESSAGES or size > HELD_BYTES_MAX:
            why = f"{len(messages)} messages of {size} bytes are more than a client may hold"
            raise SdaError(f"produce to {topic}", why, "send them in parts")
        self._client.poll(0)
        self._check(topic)
        if not self._room(len(messages), size):
            self._client.poll(ROOM_WITHIN_S)
            self._check(topic)
        if not self._room(len(messages), size):
            why = f"Kafka at {self._admin.servers} has not taken {len(self._client)} messages yet"
            raise Transient(f"produce to {topic}", why, "try again")
        for count, message in enumerate(messages):
            self._hand_over(topic, message, count)

    def flush(self, timeout_s: float) -> None:
        """Transient when something is not acknowledged in time: it is sent all the same, later."""
        left = self._client.flush(timeout_s)
        self._check("Kafka")
        if left:
            told = self._admin.trouble.taken()
            why = f"{left} messages are not acknowledged after {timeout_s:g} s"
            raise Transient("flush what was produced", why + (f" ({told})" if told else ""))

    def close(self) -> None:
        """Let go of it, once; what is not flushed is gone."""
        if not self._closed:
            self._closed = True
            self._client.purge()
            self._client.flush(0)
            del self._client
            self._admin.close()

    def _hand_over(self, topic: str, message: OutMessage, before: int) -> None:
        """One message of a batch of which ``before`` were taken: those cannot be taken back."""
        key, value, timestamp_ms, headers = message
        try:
            self._client.produce(
                topic, value, key, timestamp=timestamp_ms, headers=[*headers],
                on_delivery=self._delivered,
            )  # fmt: skip
        except (BufferError, KafkaException) as error:
            why = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            if before:
                self._lost = self._lost or f"{why}, after {before} of a batch were taken"
            raise SdaError(f"produce to {topic}", why, HINT) from error
        self._unsent_bytes += len(key) + len(value)

    def _room(self, messages: int, size: int) -> bool:
        """Whether so much fits; into an empty client anything does."""
        waiting = len(self._client)
        fits = waiting + messages <= UNSENT_MESSAGES and self._unsent_bytes + size <= UNSENT_BYTES
        return fits or not waiting

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        self._unsent_bytes -= len(message.value() or b"") + len(message.key() or b"")
        if error is not None and error.code() != KafkaError._PURGE_QUEUE:
            self._lost = self._lost or error.str()

    def _check(self, where: str) -> None:
        if self._lost:
            raise SdaError(f"produce to {where}", self._lost, HINT)
