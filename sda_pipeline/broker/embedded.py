"""The embedded broker's consumer and producer: the port on LMDB, no server to install.

For trying out and for tests; a service runs on Kafka. Not its files: those are ``storage.py`` and
``stored_batch.py``. Everything a producer has returned from is durable. One consumer or producer
is for one thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sda_pipeline.broker import stored_batch
from sda_pipeline.broker.port import Batch, Headers, OffsetOutOfRange, OutMessage
from sda_pipeline.broker.storage import Reading, Storage, Topic
from sda_pipeline.broker.stored_batch import Slice
from sda_pipeline.clock import Clock
from sda_pipeline.errors import BrokerFull, StateCorrupt
from sda_pipeline.limits import BATCH_MESSAGES_MAX, BATCH_RAW_BYTES_MAX, SECOND_NS

POLL_S = 0.005  # a waiting consumer looks this often
PURGE_EVERY_S = 10.0  # a producer deletes what has expired at most so often
GROWTH_WITHOUT_ASKING = 1  # partitions of a topic that a producer finds missing

Piece = tuple[int, Slice, int, int]  # partition, batch, from index, to index


class EmbeddedConsumer:
    """One group's reader of one topic. See ``port.Consumer``."""

    def __init__(
        self, storage: Storage, topic: str, group: str, partitions_if_new: int, clock: Clock
    ) -> None:
        self._storage, self._name, self._group, self._clock = storage, topic, group, clock
        self._topic: Topic = storage.ensure_topic(topic, partitions_if_new, grow=False)
        self._positions: dict[int, int] = {}
        self._generations: dict[int, int] = {}  # of the positions
        self._seen: dict[int, int] = {}  # the end, in the generation of the position
        self._slices: dict[int, Slice] = {}  # the batch each partition was last read from
        self._turn = 0
        self.partitions()

    def partitions(self) -> tuple[int, ...]:
        """Reads the topic anew; a partition not seen before starts at its committed offset."""
        with self._storage.reading() as txn:
            topic = self._storage.topic(txn, self._name)
            if topic is None:
                raise StateCorrupt(f"read topic {self._name}", "it has vanished from the broker")
            self._topic = topic
            fresh = [p for p in range(topic.partitions) if p not in self._positions]
            parts = {p: self._storage.part(txn, topic, p) for p in fresh}
        for partition, part in parts.items():
            groups = self._storage.offsets.committed(self._name, partition)
            generation, offset = groups.get(self._group, (-1, 0))
            self._positions[partition] = offset if generation == part.generation else part.start
            self._generations[partition] = part.generation
        return tuple(range(topic.partitions))

    def generation(self, partition: int) -> int:
        """The partition's generation as of now."""
        with self._storage.reading() as txn:
            return self._storage.part(txn, self._topic, partition).generation

    def log_start(self, partition: int) -> int:
        """The partition's oldest readable offset as of now."""
        with self._storage.reading() as txn:
            return self._storage.part(txn, self._topic, partition).start

    def seek(self, partition: int, offset: int) -> None:
        """Consume from ``offset`` of the partition's present generation."""
        self._generations[partition] = self.generation(partition)
        self._positions[partition] = offset
        self._seen.pop(partition, None)
        self._slices.pop(partition, None)

    def consume(self, max_messages: int, max_bytes: int, timeout_s: float) -> Batch:
        """See the port. Waits in steps of a few milliseconds, by the injected clock."""
        deadline = self._clock.monotonic_ns() + round(timeout_s * SECOND_NS)
        while not (pieces := self._read(max_messages, max_bytes)):
            left = deadline - self._clock.monotonic_ns()
            if left <= 0:
                break
            self._clock.sleep(min(POLL_S, left / SECOND_NS))
        for partition, piece, _, stop in pieces:
            self._positions[partition] = piece.base + stop
        return _as_batch(pieces)

    def position(self, partition: int) -> int:
        """See the port."""
        return self._positions.get(partition, 0)

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Synchronous, with the generation this consumer reads."""
        values = {p: (self._generations[p], offset) for p, offset in offsets.items()}
        self._storage.offsets.commit(self._name, self._group, values)

    def committed(self) -> dict[int, int]:
        """See the port."""
        found = {}
        for partition in self._positions:
            groups = self._storage.offsets.committed(self._name, partition)
            generation, offset = groups.get(self._group, (-1, 0))
            if generation == self.generation(partition):
                found[partition] = offset
        return found

    def lag(self) -> dict[int, int]:
        """See the port; a generation not yet sought to is lag as a whole, and never nothing."""
        with self._storage.reading() as txn:
            parts = {p: self._storage.part(txn, self._topic, p) for p in self._positions}
        self._seen |= {
            p: part.end for p, part in parts.items() if self._generations[p] == part.generation
        }
        lag = {}
        for p, part in parts.items():
            strange = self._generations[p] != part.generation
            waits = part.end - (part.start if strange else self._positions[p])
            # An end below the position, or another life, is met by a ``consume``.
            lag[p] = max(1, waits) if strange or waits < 0 else waits
        return lag

    def unread(self, partition: int) -> int:
        """See the port."""
        return max(0, self._seen.get(partition, 0) - self._positions.get(partition, 0))

    def close(self) -> None:
        """Give the storage back."""
        self._storage.close()

    def _read(self, messages: int, size: int) -> list[Piece]:
        """What there is, partition by partition, beginning with another one each time."""
        pieces: list[Piece] = []
        count = self._topic.partitions
        with self._storage.reading() as txn:
            for turn in range(count):
                partition = (self._turn + turn) % count
                for piece in self._read_partition(txn, partition, messages, size, not pieces):
                    pieces.append(piece)
                    messages -= piece[3] - piece[2]
                    size -= piece[1].bytes_between(piece[2], piece[3])
        self._turn = (self._turn + 1) % count
        return pieces

    def _read_partition(
        self, txn: Reading, partition: int, messages: int, size: int, alone: bool
    ) -> list[Piece]:
        """Pieces from the partition's position; with ``alone`` at least one message if any."""
        part = self._storage.part(txn, self._topic, partition)
        position = self._positions[partition]
        if part.generation != self._generations[partition] or not (
            part.start <= position <= part.end
        ):
            raise OffsetOutOfRange(self._name, partition, position, part.start, part.end)
        pieces: list[Piece] = []
        while position < part.end and messages > 0:
            piece = self._slices.get(partition)
            if piece is None or not piece.base <= position < piece.end:
                piece = self._storage.batch_at(txn, self._topic, partition, position)
                self._slices[partition] = piece
            start = position - piece.base
            stop = piece.cut(start, messages, size)
            if stop == start and alone and not pieces:
                stop = start + 1  # larger than all that was asked for: it comes alone
            if stop == start:
                break
            pieces.append((partition, piece, start, stop))
            messages -= stop - start
            size -= piece.bytes_between(start, stop)
            position = piece.base + stop
        return pieces


class EmbeddedProducer:
    """Writes to any topic of one broker. See ``port.Producer``."""

    def __init__(self, storage: Storage, clock: Clock, retention_s: float) -> None:
        self._storage, self._clock = storage, clock
        self._retention_ns = round(retention_s * SECOND_NS)
        self._purged: dict[str, int] = {}  # monotonic ns, by topic
        self._topics: dict[str, Topic] = {}

    def create_topic(self, topic: str, partitions: int) -> None:
        """See the port."""
        self._topics[topic] = self._storage.ensure_topic(topic, partitions, grow=True)

    def recreate_topic(self, topic: str) -> None:
        """Drop what the topic holds; its partitions begin anew in the next generation."""
        self._storage.recreate_topic(topic)

    def produce(self, topic: str, messages: Sequence[OutMessage]) -> None:
        """Durable on return. A topic that does not exist gets one partition. BrokerFull: retry."""
        if not messages:
            return
        partitions = self._partitions(topic)
        by_partition: dict[int, Sequence[OutMessage]] = {0: messages}
        if partitions > 1:
            split: dict[int, list[OutMessage]] = {}
            for message in messages:
                partition = stored_batch.partition_of(message.key, partitions)
                split.setdefault(partition, []).append(message)
            by_partition = dict(split)
        now = self._clock.wall_ns()
        values = {
            partition: [
                (stored_batch.encode(chunk, now), len(chunk))
                for chunk in stored_batch.chunks(part, BATCH_MESSAGES_MAX, BATCH_RAW_BYTES_MAX)
            ]
            for partition, part in by_partition.items()
        }
        try:
            self._storage.append(topic, values)
        except BrokerFull:
            if not self._purge(topic):
                raise
            self._storage.settle()
            self._storage.append(topic, values)
        if self._clock.monotonic_ns() - self._purged[topic] >= PURGE_EVERY_S * SECOND_NS:
            self._purge(topic)

    def flush(self, timeout_s: float) -> None:
        """Nothing to wait for: ``produce`` returns when it is durable."""

    def close(self) -> None:
        """Give the storage back."""
        self._storage.close()

    def _partitions(self, topic: str) -> int:
        """Partitions as last read; read anew after each purge, so that growth is seen."""
        if topic not in self._topics:
            self._topics[topic] = self._storage.ensure_topic(
                topic, GROWTH_WITHOUT_ASKING, grow=False
            )
        self._purged.setdefault(topic, self._clock.monotonic_ns())
        return self._topics[topic].partitions

    def _purge(self, topic: str) -> int:
        self._storage.sweep_readers()
        self._purged[topic] = self._clock.monotonic_ns()
        self._topics.pop(topic, None)
        return self._storage.purge(topic, self._clock.wall_ns() - self._retention_ns)


def _as_batch(pieces: list[Piece]) -> Batch:
    """The pieces' columns one after the other."""
    keys: list[bytes] = []
    values: list[bytes] = []
    headers: list[Headers] = []
    some = any(piece.headers for _, piece, _, _ in pieces)
    for _, piece, start, stop in pieces:
        keys += piece.keys[start:stop]
        values += piece.values[start:stop]
        if some:
            headers += piece.headers[start:stop] or [()] * (stop - start)
    if not pieces:
        empty = np.empty(0, np.int64)
        return Batch(empty.astype(np.int32), empty, empty, keys, values, headers)
    return Batch(
        np.concatenate([np.full(stop - start, p, np.int32) for p, _, start, stop in pieces]),
        np.concatenate([np.arange(piece.base + a, piece.base + b) for _, piece, a, b in pieces]),
        np.concatenate([piece.timestamps[a:b] for _, piece, a, b in pieces]),
        keys,
        values,
        headers,
    )
