"""A Kafka consumer behind the port: assigned, never subscribed; it answers within a bound.

A topic's id is never used again, so a batch is handed out only when the topic still has the id of
its positions after the batch was fetched: then all of it is of that life. Not the producer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, TopicPartition

from sda_pipeline.broker.kafka_admin import KafkaAdmin, TopicNow
from sda_pipeline.broker.kafka_group import KafkaGroup
from sda_pipeline.broker.kafka_settings import consumer_options
from sda_pipeline.broker.port import Batch, Headers, OffsetOutOfRange
from sda_pipeline.clock import Clock
from sda_pipeline.errors import SdaError
from sda_pipeline.limits import SECOND_NS

FRESH_NS = SECOND_NS // 10  # a description of the topic this young will do for the lag


class KafkaConsumer:
    """One group's reader of one topic. See ``port.Consumer``."""

    def __init__(self, admin: KafkaAdmin, topic: str, group: str, clock: Clock) -> None:
        self._admin, self._name, self._clock = admin, topic, clock
        options = admin.options | consumer_options(group)
        self._consumer = admin.make(Consumer, options)
        self._group = KafkaGroup(admin, group, topic)
        self._positions: dict[int, int] = {}  # of what is handed out next
        self._lives: dict[int, str] = {}  # the topic id that each position means
        self._told: dict[int, str] = {}  # the topic id ``generation`` last told
        self._unplaced: set[int] = set()  # partitions without a position so far
        self._suspect: set[int] = set()  # partitions where something fetched was out of range
        self._truncated: set[int] = set()  # of these, the ones that were cut below it
        self._held: list[Any] = []  # fetched, not handed out
        self._ends: dict[int, int] = {}  # nothing to hand out below, once nothing is held
        self._passed: dict[int, int] = {}  # the same, and nothing was held
        self._found: dict[int, int] = {}  # the end, of whichever life
        self._seen: dict[int, int] = {}  # the same, found to be of the position's life
        self._assigned = self._checked = self._closed = False
        self._described: tuple[int, TopicNow] | None = None

    def partitions(self) -> tuple[int, ...]:
        """Asks anew; a partition not seen before starts at its committed offset."""
        topic = self._describe()
        fresh = set(topic.partitions) - self._positions.keys() - self._unplaced
        if fresh:
            self._unplaced |= fresh
            self._lives |= dict.fromkeys(fresh, topic.id)
            self._assigned = False
        return topic.partitions

    def generation(self, partition: int) -> int:
        """From the topic's id, as of now."""
        topic = self._describe()
        self._told[partition] = topic.id
        return topic.generation

    def log_start(self, partition: int) -> int:
        """The partition's oldest offset as of now."""
        return self._admin.starts(self._name, (partition,))[partition]

    def seek(self, partition: int, offset: int) -> None:
        """Consume from ``offset``. Takes effect with the next ``consume``."""
        self._lives[partition] = self._told.get(partition) or self._describe().id
        self._positions[partition] = offset
        self._unplaced.discard(partition)
        self._suspect.discard(partition)
        self._truncated.discard(partition)
        self._found.pop(partition, None)
        self._seen.pop(partition, None)
        self._assigned = False

    def consume(self, max_messages: int, max_bytes: int, timeout_s: float) -> Batch:
        """See the port."""
        deadline = self._clock.monotonic_ns() + round(timeout_s * SECOND_NS)
        while True:
            self._assign()
            if not self._held:
                self._fetch(max_messages, deadline)
            self._check()
            if self._assigned or self._clock.monotonic_ns() >= deadline:
                break
        count = self._fitting(max_messages, max_bytes)
        taken, self._held = self._held[:count], self._held[count:]
        batch = _as_batch(taken)
        for partition in np.unique(batch.partitions).tolist():
            newest = int(batch.offsets[batch.partitions == partition].max())
            self._positions[partition] = newest + 1
        if not self._held:  # what ends a transaction is behind us as well
            self._passed |= self._ends
            self._ends.clear()
        return batch

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Waits a bounded time for the answer."""
        known = {p: offset for p, offset in offsets.items() if p in self._lives}
        self._group.commit(known, self._lives)

    def committed(self) -> dict[int, int]:
        """See the port; one that others committed says of no topic id and is taken as it is."""
        topic = self._describe()
        found = self._group.committed(topic.partitions)
        return {p: offset for p, (offset, life) in found.items() if life in ("", topic.id)}

    def lag(self) -> dict[int, int]:
        """See the port; of another life than the position's, all of it.

        What an open transaction holds back waits as well: its messages are older than they come.
        """
        self._place()
        topic = self._describe(FRESH_NS)
        known = tuple(self._positions)
        ends = self._admin.ends(self._name, known)
        self._found = dict(ends)
        at = {p: max(self._positions[p], self._passed.get(p, 0)) for p in known}
        if any(self._lives[p] != topic.id for p in known):
            starts = self._admin.starts(self._name, known)
            at |= {p: starts[p] for p in known if self._lives[p] != topic.id}
        return {p: max(0, ends[p] - at[p]) for p in known}

    def unread(self, partition: int) -> int:
        """See the port."""
        at = max(self._positions.get(partition, 0), self._passed.get(partition, 0))
        return max(0, self._seen.get(partition, 0) - at)

    def close(self) -> None:
        """Let go of the connections, once."""
        if not self._closed:
            self._closed, self._held = True, []
            self._group.close()
            self._consumer.close()
            del self._consumer
            self._admin.close()

    # --- inside -----------------------------------------------------------------------------

    def _describe(self, young_ns: int = 0) -> TopicNow:
        now = self._clock.monotonic_ns()
        if self._described is None or now - self._described[0] >= young_ns:
            self._described = now, self._admin.describe(self._name)
            topic = self._described[1]
            for gone in self._lives.keys() - set(topic.partitions):
                self._forget(gone)  # made anew with fewer
            self._seen |= {p: n for p, n in self._found.items() if self._lives.get(p) == topic.id}
            self._found = {}
        return self._described[1]

    def _forget(self, partition: int) -> None:
        for known in (self._positions, self._lives, self._told):
            known.pop(partition, None)
        for offsets in (self._passed, self._found, self._seen):
            offsets.pop(partition, None)
        for noted in (self._unplaced, self._suspect, self._truncated):
            noted.discard(partition)
        self._assigned = False

    def _place(self) -> None:
        """Give a position to partitions that nobody has sought to."""
        if self._unplaced:
            committed = self.committed()
            starts = self._admin.starts(self._name, self._unplaced)
            for partition in [*self._unplaced]:
                self._positions[partition] = committed.get(partition, starts[partition])
                self._unplaced.discard(partition)

    def _assign(self) -> None:
        """Fetch from the positions, when they are not where it fetches already."""
        self._place()
        if self._assigned:
            return
        self._held, self._checked = [], False
        self._ends.clear()
        self._passed.clear()
        self._consumer.assign(
            [TopicPartition(self._name, p, at) for p, at in sorted(self._positions.items())]
        )
        self._assigned = True

    def _fetch(self, most: int, deadline: int) -> None:
        """Hold what is there; wait for a first message up to the deadline."""
        found = self._consumer.consume(most, 0)
        while not self._sort(found) and not self._suspect:
            left_s = (deadline - self._clock.monotonic_ns()) / SECOND_NS
            if left_s <= 0:
                break
            found = self._consumer.consume(1, left_s)
            if found and found[0].error() is None and most > 1:
                found += self._consumer.consume(most - 1, 0)
        self._checked = False

    def _sort(self, found: list[Any]) -> bool:
        """Messages are held, events noted. Whether a message was among them."""
        messages = [message for message in found if message.error() is None]
        self._held += messages
        if len(messages) < len(found):
            for event in found:
                if event.error() is not None:
                    self._note(event, event.error())
        return bool(messages)

    def _note(self, event: Any, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._ends[event.partition()] = event.offset()
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._suspect.add(event.partition())
        elif error.code() == KafkaError._LOG_TRUNCATION:  # and written anew, by its leader's epoch
            self._suspect.add(event.partition())
            self._truncated.add(event.partition())
        elif error.fatal():
            raise SdaError(f"consume {self._name}", error.str(), "it is tried in a new process")
        else:  # an outage, or a topic that is gone: the questions to the cluster tell it
            self._admin.trouble.heard(error)

    def _check(self) -> None:
        """OffsetOutOfRange unless every position can be read and what is held is of its life."""
        if self._held and not self._checked:
            self._describe()
        strange: set[int] = set()
        if self._described is not None:  # now, or when the lag was last asked for
            now = self._described[1].id
            strange = {p for p, life in self._lives.items() if life != now}
        self._checked = not strange
        for partition in sorted(strange | self._suspect):
            start = self._admin.starts(self._name, (partition,))[partition]
            end = self._admin.ends(self._name, (partition,))[partition]
            at = self._positions[partition]
            if partition in self._truncated:
                end = min(end, at - 1)  # what lies above is not what it was
            if partition in strange or not start <= at <= end:
                raise OffsetOutOfRange(self._name, partition, at, start, end)
            # A word about an earlier position, or about what was fetched ahead of this one.
            self._suspect.discard(partition)
            self._assigned = False
        if not self._assigned:
            self._held = []

    def _fitting(self, most: int, size: int) -> int:
        """How many of the held messages are within both bounds; at least one if there is any."""
        sizes = (len(m.value() or b"") + len(m.key() or b"") for m in self._held[:most])
        return max(min(1, len(self._held)), bisect_right([*accumulate(sizes)], size))


def _as_batch(messages: list[Any]) -> Batch:
    count = len(messages)
    headers: list[Any] = [message.headers() for message in messages]
    return Batch(
        np.fromiter([message.partition() for message in messages], np.int32, count),
        np.fromiter([message.offset() for message in messages], np.int64, count),
        np.fromiter([message.timestamp()[1] for message in messages], np.int64, count),
        [message.key() or b"" for message in messages],
        [message.value() or b"" for message in messages],
        [_headers(found) for found in headers] if any(headers) else [],
    )


def _headers(found: list[tuple[str, bytes | None]] | None) -> Headers:
    return tuple((name, value or b"") for name, value in found or ())
