"""One client that fetches from given places until it is closed: messages, and words about them.

It is never assigned again. librdkafka keeps the leader's epoch of a topic across its deletion, and
then fetches nothing of the one made anew; and it asks once only whether an epoch still holds at a
position, so that what was cut and written anew would pass for what was meant. Not what a position
means: that is ``kafka.py``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from sda_pipeline.broker.kafka_admin import KafkaAdmin
from sda_pipeline.broker.kafka_group import NO_EPOCH
from sda_pipeline.broker.kafka_settings import consumer_options
from sda_pipeline.clock import Clock
from sda_pipeline.errors import SdaError, Transient
from sda_pipeline.limits import SECOND_NS

# What is said of a partition while its cluster is away or moves: the questions to it tell that.
OUTAGES = frozenset({
    KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._RESOLVE, KafkaError._SSL,
    KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._UNKNOWN_PARTITION,
    KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError.INCONSISTENT_TOPIC_ID, KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.BROKER_NOT_AVAILABLE, KafkaError.NETWORK_EXCEPTION, KafkaError.REQUEST_TIMED_OUT,
    KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
})  # fmt: skip
FORBIDDEN = frozenset({
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
})  # fmt: skip


class Place(NamedTuple):
    """Where to fetch, and the leader's epoch of the message before it, if that is known."""

    offset: int
    epoch: int = NO_EPOCH


class KafkaFetch:
    """Fetches from ``places``, by partition, at once and ahead."""

    def __init__(
        self, admin: KafkaAdmin, topic: str, group: str, places: Mapping[int, Place], clock: Clock
    ) -> None:
        self._admin, self._topic, self._clock, self.places = admin, topic, clock, places
        self.held: list[Any] = []  # fetched, not taken
        self.brought: set[int] = set()  # partitions of which anything was held
        self.suspect: set[int] = set()  # partitions of which a position cannot be read
        self._ends: dict[int, int] = {}  # nothing to take below, once nothing is held
        self._refused: Transient | None = None
        self._heard = dict.fromkeys(places, clock.monotonic_ns())  # of a partition, at last
        self._client = admin.make(Consumer, admin.options | consumer_options(group))
        self._client.assign(
            [TopicPartition(topic, p, at, "", epoch) for p, (at, epoch) in sorted(places.items())]
        )

    def wait(self, most: int, deadline_ns: int) -> None:
        """Hold what is there; wait for a first message up to the deadline. Transient: refused."""
        self._complain()
        found = self._client.consume(most, 0)
        while not self._sort(found) and not self.suspect:
            self._complain()
            left_s = (deadline_ns - self._clock.monotonic_ns()) / SECOND_NS
            if left_s <= 0:
                break
            found = self._client.consume(1, left_s)
            if found and found[0].error() is None and most > 1:
                found += self._client.consume(most - 1, 0)

    def take(self, most: int, size: int) -> list[Any]:
        """The first of the held messages within both bounds; at least one if there is any."""
        sizes = (len(m.value() or b"") + len(m.key() or b"") for m in self.held[:most])
        count = max(min(1, len(self.held)), bisect_right([*accumulate(sizes)], size))
        taken, self.held = self.held[:count], self.held[count:]
        return taken

    def passed(self) -> dict[int, int]:
        """By partition, the offset below which nothing more comes; {} while anything is held."""
        return {} if self.held else self._ends

    def silent_ns(self, partition: int) -> int:
        """For how long neither a message nor the end of a partition has come."""
        return self._clock.monotonic_ns() - self._heard[partition]

    def close(self) -> None:
        """Let go of the connections and of what is held."""
        self.held = []
        self._client.close()
        del self._client

    def _complain(self) -> None:
        if self._refused is not None:
            raise self._refused

    def _sort(self, found: list[Any]) -> bool:
        """Messages are held, events noted. Whether a message was among them."""
        messages = [message for message in found if message.error() is None]
        self.held += messages
        came = {message.partition() for message in messages}
        self.brought |= came
        self._heard |= dict.fromkeys(came, self._clock.monotonic_ns())
        if len(messages) < len(found):
            for event in found:
                if event.error() is not None:
                    self._note(event, event.error())
        return bool(messages)

    def _note(self, event: Any, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._ends[event.partition()] = event.offset()
            self._heard[event.partition()] = self._clock.monotonic_ns()
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION):
            self.suspect.add(event.partition())
        elif error.fatal():
            raise SdaError(f"consume {self._topic}", error.str(), "it is tried in a new process")
        elif error.code() in OUTAGES:
            self._admin.trouble.heard(error)
        else:
            self._refused = Transient(
                f"consume {self._topic}[{event.partition()}]",
                f"Kafka at {self._admin.servers} answers: {error.str()}",
                "grant the right to read it"
                if error.code() in FORBIDDEN
                else "restore a replica, or delete its records up to there: they are then missing",
            )
