"""Questions to a Kafka cluster, each answered within a bound: topics and offsets. No messages.

It has connections of its own, so that no question waits behind a fetch. A cluster that does not
answer is Transient here; whoever opens a broker makes it Unreachable. Nothing here asks a group's
coordinator: librdkafka 2.16 aborts the process when such an answer comes after its time
(``rd_kafka_enq_once_del_source_return``); a group's offsets are its consumer's business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic, OffsetSpec

from sda_pipeline.broker.kafka_settings import KafkaSettings, client_options
from sda_pipeline.clock import Clock
from sda_pipeline.errors import InvalidConfiguration, Transient
from sda_pipeline.limits import LIFE_BITS, SECOND_NS

OLDEST: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
NEXT: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
LOOK_S = 0.05  # how often a wait looks for an error that makes waiting useless
HOPELESS = (KafkaError._AUTHENTICATION, KafkaError._SSL)  # asking again will not help
SILENCE = (None, KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)
TOPIC_CONFIG = {
    "retention.ms": "-1",  # playback has old timestamps: it would be deleted at once
    "message.timestamp.after.max.ms": str(2**63 - 1),  # and a simulation may be in the future
}


class MissingTopic(Transient):
    """The topic does not exist: nobody has created it, or somebody deletes and creates it."""


class Refused(Transient):
    """The cluster does not let us in."""


@dataclass(frozen=True)
class TopicNow:
    """A topic as the cluster described it. ``id`` is never used again for another topic."""

    id: str
    partitions: tuple[int, ...]

    @property
    def generation(self) -> int:
        """The id as the number of the port."""
        return int.from_bytes(blake2b(self.id.encode(), digest_size=LIFE_BITS // 8).digest())


class Trouble:
    """What the clients of a cluster last complained about. Every client reports to it."""

    def __init__(self) -> None:
        self.error: KafkaError | None = None

    def heard(self, error: KafkaError) -> None:
        """Called by a client, from whichever of its calls serves callbacks."""
        known = self.error
        summary = error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT)
        if known is None or not (known.code() in HOPELESS or summary):
            self.error = error

    @property
    def hopeless(self) -> bool:
        return self.error is not None and self.error.code() in HOPELESS

    def taken(self) -> str:
        """In words, once: the next question waits for an answer of its own."""
        error, self.error = self.error, None
        return "" if error is None else error.str().strip()


class KafkaAdmin:
    """The questions of one process. ``options`` and ``trouble`` are for its other clients."""

    def __init__(self, servers: str, settings: KafkaSettings, clock: Clock) -> None:
        self.servers, self.settings, self._clock = servers, settings, clock
        self.trouble = Trouble()
        self.options = client_options(servers, settings) | {"error_cb": self.trouble.heard}
        self._client = self.make(AdminClient, self.options)

    def make(self, client: Callable[[Any], Any], options: dict[str, object]) -> Any:
        """A client of the library; InvalidConfiguration when it refuses the options."""
        try:
            return client(dict(options))
        except KafkaException as error:
            raise InvalidConfiguration(
                f"connect to Kafka at {self.servers}", [error.args[0].str()],
                "correct the topology's section kafka",
            ) from error  # fmt: skip

    def ping(self) -> None:
        """Return when the cluster answers. Transient."""
        asked = self._client.describe_cluster(request_timeout=self.settings.timeout_s)
        self._answer("ask for the cluster", asked)

    def close(self) -> None:
        """Let go of the connections, here and now: left to the garbage collector, the library's
        client may be destroyed by a thread of its own, which it does not survive.
        """
        del self._client

    # --- topics -----------------------------------------------------------------------------

    def describe(self, topic: str) -> TopicNow:
        """The topic as of now. MissingTopic; Transient."""
        asked = self._client.describe_topics(
            TopicCollection([topic]), request_timeout=self.settings.timeout_s
        )
        action = f"ask for topic {topic}"
        found = self._answer(action, asked[topic])
        if not found.partitions:
            raise self._silence(action)
        return TopicNow(str(found.topic_id), tuple(sorted(p.id for p in found.partitions)))

    def create(self, topic: str, partitions: int) -> None:
        """Make sure that the topic is there, with at least so many partitions. Transient."""
        action = f"create topic {topic}"
        wanted = NewTopic(topic, partitions, self.settings.replication, config=TOPIC_CONFIG)
        asked = self._client.create_topics([wanted], request_timeout=self.settings.timeout_s)
        try:
            self._answer(action, asked[topic])
            return
        except Transient as error:
            if _code(error) != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        have = len(self.describe(topic).partitions)
        if have < partitions:
            more = self._client.create_partitions(
                [NewPartitions(topic, partitions)], request_timeout=self.settings.timeout_s
            )
            self._answer(action, more[topic])

    # --- offsets ----------------------------------------------------------------------------

    def starts(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The oldest offset of each partition. Transient."""
        return self._offsets(topic, partitions, OLDEST)

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The next offset to be written of each partition, open transactions or not. Transient."""
        return self._offsets(topic, partitions, NEXT)

    def _offsets(self, topic: str, partitions: Iterable[int], which: Any) -> dict[int, int]:
        asked = self._client.list_offsets(
            {TopicPartition(topic, partition): which for partition in partitions},
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=self.settings.timeout_s,
        )
        action = f"ask for the offsets of {topic}"
        try:
            found = {at.partition: int(self._answer(action, f).offset) for at, f in asked.items()}
        except Transient as error:
            if _code(error) not in SILENCE:
                self._look_up(topic)
            raise
        # A client that runs out of time at the right moment says so by an offset, not by an error.
        if min(found.values(), default=0) < 0:
            raise self._silence(action)
        return found

    def _look_up(self, topic: str) -> None:
        """Learn who leads its partitions now: the client would go on asking as before, for more
        than a minute. What does not answer is met by the next question.
        """
        with contextlib.suppress(KafkaException):
            self._client.list_topics(topic, timeout=self.settings.timeout_s)

    # --- waiting ----------------------------------------------------------------------------

    def _answer(self, action: str, future: Future[Any]) -> Any:
        """What the cluster answers, within the bound; Transient with the best reason known."""
        deadline = self._clock.monotonic_ns() + round(self.settings.timeout_s * SECOND_NS)
        while True:
            left_s = (deadline - self._clock.monotonic_ns()) / SECOND_NS
            try:
                return future.result(max(0.0, min(LOOK_S, left_s)))
            except FutureTimeoutError:
                self._client.poll(0)
                if left_s <= 0 or self.trouble.hopeless:
                    raise self._silence(action) from None
            except KafkaException as error:
                self._client.poll(0)
                raise self.refusal(action, error) from error

    def _silence(self, action: str) -> Transient:
        hopeless, told = self.trouble.hopeless, self.trouble.taken()
        if hopeless:
            why = f"Kafka at {self.servers} refuses: {told}"
            return Refused(action, why, "correct the topology's section kafka or its password")
        why = f"Kafka at {self.servers} does not answer" + (f" ({told})" if told else "")
        return Transient(action, why, "start it, or correct the topology's broker")

    def refusal(self, action: str, error: KafkaException) -> Transient:
        """What a client of this cluster was told instead of an answer."""
        told = error.args[0]
        if told.code() < 0:  # the client's own words for an answer that never came
            self.trouble.heard(told)
            return self._silence(action)
        kind = MissingTopic if told.code() == KafkaError.UNKNOWN_TOPIC_OR_PART else Transient
        return kind(action, f"Kafka at {self.servers} answers: {told.str()}")


def _code(error: Transient) -> int | None:
    cause = error.__cause__
    return cause.args[0].code() if isinstance(cause, KafkaException) else None
