"""A group's committed offsets on Kafka: written and read within a bound. For observers, not truth.

The library's synchronous commit blocks for the whole of an outage and with it other calls of its
client, so it has a client and a thread of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from sda_pipeline.broker.kafka_admin import KafkaAdmin
from sda_pipeline.broker.kafka_settings import group_options
from sda_pipeline.errors import Transient

NO_EPOCH = -1  # as the protocol writes it
SOON_S = 0.02  # how long a commit is waited for after one that was not answered in time


class Committed(NamedTuple):
    """The next offset to read, and what goes with it as its metadata: the topic's id ("": others
    committed it), and the leader's epoch of the message before ``reached``, from where to
    ``offset`` there was none. Not as the protocol's epoch: that would be the one before ``offset``.
    """

    offset: int
    life: str
    reached: int
    epoch: int = NO_EPOCH

    @property
    def metadata(self) -> str:
        return f"{self.life}:{self.reached}:{self.epoch}"


def read_committed(offset: int, metadata: str) -> Committed:
    """As it was written; of an older release and of others only what is sure."""
    life, *stood = metadata.split(":")
    try:
        reached, epoch = (int(number) for number in stood)
    except ValueError:
        return Committed(offset, "" if stood else life, offset)
    return Committed(offset, life, reached, epoch)


class KafkaGroup:
    """The offsets of one group in one topic. Each says of which topic id it is."""

    def __init__(self, admin: KafkaAdmin, group: str, topic: str) -> None:
        self._admin, self._topic = admin, topic
        self._client = admin.make(Consumer, admin.options | group_options(group))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._commit: Future[Any] | None = None
        self._in_time = True

    def commit(self, offsets: Mapping[int, Committed]) -> None:
        """Commit and wait for the answer; Transient when there is none in time or it is a no.

        An answer still outstanding is not waited for: the next batch's commit says more anyway.
        """
        action = f"commit offsets of {self._topic}"
        if self._commit is not None and not self._commit.done():
            raise Transient(action, "the last commit is not answered yet", "it is said again")
        at = [TopicPartition(self._topic, p, c.offset, c.metadata) for p, c in offsets.items()]
        self._commit = self._thread.submit(self._client.commit, offsets=at, asynchronous=False)
        within_s = self._admin.settings.timeout_s if self._in_time else SOON_S
        self._in_time = False
        try:
            done = self._commit.result(within_s)
        except FutureTimeoutError:
            why = f"Kafka at {self._admin.servers} does not answer"
            raise Transient(action, why, "it is said again") from None
        except KafkaException as error:
            self._in_time = True
            raise self._admin.refusal(action, error) from error
        self._in_time = True
        for partition in done or ():
            if partition.error is not None:
                raise Transient(action, partition.error.str(), "it is said again")

    def committed(self, partitions: Iterable[int]) -> dict[int, Committed]:
        """By partition, where there is one. Transient."""
        action = f"ask for offsets in {self._topic}"
        at = [TopicPartition(self._topic, partition) for partition in partitions]
        try:
            found = self._client.committed(at, timeout=self._admin.settings.timeout_s)
        except KafkaException as error:
            raise self._admin.refusal(action, error) from error
        for partition in found:
            if partition.error is not None:
                raise Transient(action, partition.error.str())
        return {
            at.partition: read_committed(at.offset, at.metadata or "")
            for at in found
            if at.offset >= 0
        }

    def close(self) -> None:
        """Let go of it; behind a commit under way it ends by itself."""
        closing = self._thread.submit(self._client.close)
        if self._commit is None or self._commit.done():
            with contextlib.suppress(FutureTimeoutError):
                closing.result(self._admin.settings.timeout_s)
        self._thread.shutdown(wait=False)
        del self._client
