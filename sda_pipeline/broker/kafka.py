"""A Kafka consumer behind the port: assigned, never subscribed; it answers within a bound.

A topic's id is never used again, so a batch is handed out only when the topic still has the id of
its positions after the batch was fetched: then all of it is of that life. Not the producer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sda_pipeline.broker.kafka_admin import KafkaAdmin, TopicNow
from sda_pipeline.broker.kafka_fetch import KafkaFetch, Place
from sda_pipeline.broker.kafka_group import NO_EPOCH, Committed, KafkaGroup
from sda_pipeline.broker.port import Batch, Headers, OffsetOutOfRange
from sda_pipeline.clock import Clock
from sda_pipeline.errors import Transient
from sda_pipeline.limits import SECOND_NS

FRESH_NS = SECOND_NS // 10  # a description of the topic this young will do for the lag
STALLED_NS = 15 * SECOND_NS  # lag, and nothing comes: its client may ask a leader of the past


@dataclass
class _Stand:
    """What is known below a position: the ``epoch`` of the message before ``offset``, and that
    nothing comes from there up to ``passed``.
    """

    offset: int
    epoch: int
    passed: int


class KafkaConsumer:
    """One group's reader of one topic. See ``port.Consumer``."""

    def __init__(self, admin: KafkaAdmin, topic: str, group: str, clock: Clock) -> None:
        self._admin, self._name, self._clock = admin, topic, clock
        self._group_name, self._group = group, KafkaGroup(admin, group, topic)
        self._fetch: KafkaFetch | None = None  # None: the positions are not where it would fetch
        self._positions: dict[int, int] = {}  # of what is handed out next
        self._stands: dict[int, _Stand] = {}  # what is known of them
        self._lives: dict[int, str] = {}  # the topic id that each position means
        self._told: dict[int, str] = {}  # the topic id ``generation`` last told
        self._unplaced: set[int] = set()  # partitions without a position so far
        self._found: dict[int, int] = {}  # the end, of whichever life
        self._seen: dict[int, int] = {}  # the same, found to be of the position's life
        self._checked = self._recalled = self._closed = False
        self._described: tuple[int, TopicNow] | None = None

    def partitions(self) -> tuple[int, ...]:
        """Asks anew; a partition not seen before starts at its committed offset."""
        topic = self._describe()
        fresh = set(topic.partitions) - self._positions.keys() - self._unplaced
        if fresh:
            self._unplaced |= fresh
            self._lives = dict.fromkeys(fresh, topic.id) | self._lives  # one may have been gone
            self._drop()
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
        life = self._told.get(partition) or self._describe().id
        if self._lives.get(partition, life) != life:
            self._stands.pop(partition, None)
        self._lives[partition] = life
        self._positions[partition] = offset
        self._unplaced.discard(partition)
        self._found.pop(partition, None)
        self._seen.pop(partition, None)
        self._drop()

    def consume(self, max_messages: int, max_bytes: int, timeout_s: float) -> Batch:
        """See the port."""
        deadline = self._clock.monotonic_ns() + round(timeout_s * SECOND_NS)
        while True:
            fetch = self._assigned()
            if not fetch.held:
                fetch.wait(max_messages, deadline)
                self._checked = False
            if self._check(fetch):
                break
            if self._clock.monotonic_ns() >= deadline:
                return _as_batch([])
        taken = fetch.take(max_messages, max_bytes)
        newest = {message.partition(): message for message in taken}
        for partition, message in newest.items():
            at, epoch = message.offset() + 1, message.leader_epoch()
            self._positions[partition] = at
            self._stands[partition] = _Stand(at, NO_EPOCH if epoch is None else epoch, at)
        for partition, end in fetch.passed().items():  # what ends a transaction is behind us too
            self._stand(partition).passed = max(self._stand(partition).passed, end)
        return _as_batch(taken)

    def position(self, partition: int) -> int:
        """See the port."""
        return self._stand(partition).passed if partition in self._positions else 0

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Waits a bounded time for the answer."""
        known = {p: self._as_committed(p, n) for p, n in offsets.items() if p in self._positions}
        self._group.commit(known)

    def committed(self) -> dict[int, int]:
        """See the port; one that others committed says of no topic id and is taken as it is."""
        return {partition: found.offset for partition, found in self._committed().items()}

    def lag(self) -> dict[int, int]:
        """See the port; of another life than the position's, all of it, and never nothing.

        What an open transaction holds back waits as well: its messages are older than they come.
        """
        self._place()
        topic = self._describe(FRESH_NS)
        known = tuple(self._positions)
        ends = self._admin.ends(self._name, known)
        self._found = dict(ends)
        at = {p: self.position(p) for p in known}
        strange = [p for p in known if self._lives[p] != topic.id]
        if strange:
            at |= self._admin.starts(self._name, strange)
        # An end below the position, or another life, is met by a ``consume``.
        waits = {p: ends[p] - at[p] for p in known}
        lag = {p: max(1, n) if p in strange or n < 0 else n for p, n in waits.items()}
        fetch = self._fetch
        if fetch and any(n and fetch.silent_ns(p) > STALLED_NS for p, n in lag.items()):
            self._drop()
        return lag

    def unread(self, partition: int) -> int:
        """See the port."""
        return max(0, self._seen.get(partition, 0) - self.position(partition))

    def close(self) -> None:
        """Let go of the connections, once."""
        if not self._closed:
            self._closed = True
            self._drop()
            self._group.close()
            self._admin.close()

    # --- inside -----------------------------------------------------------------------------

    def _describe(self, young_ns: int = 0) -> TopicNow:
        now = self._clock.monotonic_ns()
        if self._described is None or now - self._described[0] >= young_ns:
            topic = self._admin.describe(self._name)
            gone_from_it = self._positions.keys() - set(topic.partitions)
            if any(self._lives[p] == topic.id for p in gone_from_it):
                raise Transient(
                    f"ask for topic {self._name}", "it names fewer partitions than before"
                )
            self._described = now, topic
            for gone in gone_from_it:
                self._forget(gone)  # made anew with fewer
            self._seen |= {p: n for p, n in self._found.items() if self._lives.get(p) == topic.id}
            self._found = {}
        return self._described[1]

    def _forget(self, partition: int) -> None:
        for offsets in (self._positions, self._found, self._seen):
            offsets.pop(partition, None)
        self._told.pop(partition, None)
        self._stands.pop(partition, None)
        self._unplaced.discard(partition)
        self._drop()

    def _drop(self) -> None:
        """Fetch no more from where it did."""
        fetch, self._fetch = self._fetch, None
        if fetch is not None:
            fetch.close()

    def _place(self) -> None:
        """Give a position to partitions that nobody has sought to."""
        if self._unplaced:
            committed = self.committed()
            starts = self._admin.starts(self._name, self._unplaced)
            for partition in [*self._unplaced]:
                self._positions[partition] = committed.get(partition, starts[partition])
                self._unplaced.discard(partition)

    def _assigned(self) -> KafkaFetch:
        """What fetches from the positions."""
        self._place()
        if self._fetch is None:
            self._recall()
            places = {partition: self._place_of(partition) for partition in self._positions}
            self._checked = False
            self._fetch = KafkaFetch(self._admin, self._name, self._group_name, places, self._clock)
        return self._fetch

    def _place_of(self, partition: int) -> Place:
        """Where to fetch for its position: from the last message's end, as only there an epoch is
        known; what lies between is no message.
        """
        stand = self._stand(partition)
        return Place(stand.offset, stand.epoch)

    def _stand(self, partition: int) -> _Stand:
        """What is known below its position; of another one, nothing."""
        at, stand = self._positions[partition], self._stands.get(partition)
        if stand is None or not stand.offset <= at <= stand.passed:
            stand = self._stands[partition] = _Stand(at, NO_EPOCH, at)
        return stand

    def _recall(self) -> None:
        """Once: the epochs of a former process, as it committed them. Without an answer, none."""
        first, self._recalled = not self._recalled, True
        if not first or not any(self._positions.values()):
            return
        try:
            committed = self._committed()
        except Transient:
            return
        for partition, known in committed.items():
            here = known.life and self._positions.get(partition) == known.offset
            if here and self._stand(partition).epoch == NO_EPOCH:
                self._stands[partition] = _Stand(known.reached, known.epoch, known.offset)

    def _as_committed(self, partition: int, offset: int) -> Committed:
        life, stand = self._lives[partition], self._stand(partition)
        if stand.offset <= offset <= stand.passed:
            return Committed(offset, life, stand.offset, stand.epoch)
        return Committed(offset, life, offset)

    def _committed(self) -> dict[int, Committed]:
        """Those of the topic's present life."""
        topic = self._describe()
        found = self._group.committed(topic.partitions)
        return {p: c for p, c in found.items() if c.life in ("", topic.id)}

    def _check(self, fetch: KafkaFetch) -> bool:
        """Whether what is held may be handed out; else it is asked for anew. OffsetOutOfRange
        unless every position can be read and what is held is of its life.
        """
        if fetch.held and not self._checked:
            self._describe()
            if self._fetch is not fetch:  # one of its partitions is gone
                return False
        strange: set[int] = set()
        if self._described is not None:  # now, or when the lag was last asked for
            topic = self._described[1]
            strange = {p for p in self._positions if self._lives[p] != topic.id}
        self._checked = not strange
        for partition in sorted(strange | fetch.suspect):
            start = self._admin.starts(self._name, (partition,))[partition]
            end = self._admin.ends(self._name, (partition,))[partition]
            at = self._positions[partition]
            if fetch.places[partition].offset < start:  # its epoch went with the message before
                self._stands.pop(partition, None)
            elif partition not in strange | fetch.brought and start <= at <= end:
                end = at - 1  # it was cut below, and written anew: the leaders' epochs tell
            if partition in strange or not start <= at <= end:
                raise OffsetOutOfRange(self._name, partition, at, start, end)
        if fetch.suspect:  # the word may be about what was fetched ahead of the position
            self._drop()
        return self._fetch is fetch


def _as_batch(messages: list[Any]) -> Batch:
    count = len(messages)
    headers = [_headers(message) for message in messages]
    return Batch(
        np.fromiter([message.partition() for message in messages], np.int32, count),
        np.fromiter([message.offset() for message in messages], np.int64, count),
        np.fromiter([message.timestamp()[1] for message in messages], np.int64, count),
        [message.key() or b"" for message in messages],
        [message.value() or b"" for message in messages],
        headers if any(headers) else [],
    )


def _headers(message: Any) -> Headers:
    """A header that is no text is not ours, and nothing is known of the others beside it."""
    try:
        return tuple((name, value or b"") for name, value in message.headers() or ())
    except (UnicodeDecodeError, SystemError):  # the library's C code raises either for the same
        return ()
