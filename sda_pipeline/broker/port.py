"""The broker port: what the pipeline asks of a message broker. No implementation.

Five verbs: a consumer's ``seek``, ``consume``, ``commit`` and ``lag``, a producer's ``produce``.
What else there is asks how things stand, or ends a verb (``flush``, ``close``).

Identity of a message is (topic, generation, partition, offset). Offsets of a partition ascend and
may have gaps. A topic that was recreated or truncated has a new generation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sda_pipeline.errors import SdaError

Headers = tuple[tuple[str, bytes], ...]


class Batch(NamedTuple):
    """``m`` consumed messages as columns; ascending offsets inside each partition.

    ``timestamps_ms`` are the producers', since 1970 UTC. ``headers`` is empty when none has any.
    """

    partitions: npt.NDArray[np.int32]  # (m,)
    offsets: npt.NDArray[np.int64]  # (m,)
    timestamps_ms: npt.NDArray[np.int64]  # (m,)
    keys: list[bytes]
    values: list[bytes]
    headers: list[Headers]


class OutMessage(NamedTuple):
    """A message to produce; the partition follows from its key. ``timestamp_ms`` is above 0."""

    key: bytes
    value: bytes
    timestamp_ms: int
    headers: Headers = ()


class OffsetOutOfRange(SdaError):
    """A consumer's position is not in its partition: deleted below, or never written above.

    ``start`` is the oldest offset that can be read, ``end`` the next one to be written.
    """

    def __init__(self, topic: str, partition: int, position: int, start: int, end: int) -> None:
        self.topic, self.partition, self.position = topic, partition, position
        self.start, self.end = start, end
        super().__init__(
            f"consume {topic}[{partition}] from offset {position}",
            f"it holds offsets {start} to {end}",
            "seek to one of them and count what is missing",
        )


class Consumer(Protocol):
    """Reads one topic for one group, all its partitions. Nothing is committed by itself."""

    def partitions(self) -> tuple[int, ...]:
        """The topic's partitions as of now; new ones are consumed from offset 0 from here on."""

    def generation(self, partition: int) -> int:
        """The partition's life as of now: another number, below 2**LIFE_BITS, each time it
        is created anew. A later ``seek`` means this life.
        """

    def log_start(self, partition: int) -> int:
        """The oldest offset that can be read."""

    def position(self, partition: int) -> int:
        """The next offset to consume, past those that will never come. Asks nobody."""

    def seek(self, partition: int, offset: int) -> None:
        """Consume from ``offset`` on. Before any seek: the committed offset, else the start."""

    def consume(self, max_messages: int, max_bytes: int, timeout_s: float) -> Batch:
        """What is there, at once; waits up to ``timeout_s`` for the first message.

        At most ``max_messages``, and ``max_bytes`` of keys and values (one larger message comes
        alone). OffsetOutOfRange when a position cannot be read, also when the partition has
        another life than the position. Transient while the broker does not answer: nothing is
        lost by it, the same messages come later.
        """

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Make the next offsets to read, by partition, durable for this group. Transient."""

    def committed(self) -> dict[int, int]:
        """The group's committed offsets, for partitions that have one in their generation."""

    def lag(self) -> dict[int, int]:
        """Messages not yet consumed, by partition: end offset minus position. Transient.

        0 means that all is read: never where a ``consume`` will raise OffsetOutOfRange.
        """

    def unread(self, partition: int) -> int:
        """What of the position's own life the last ``lag`` since the seek knew beyond it; 0 when
        it was not asked. Of a life that has ended, so many at least are gone. Asks nobody.
        """

    def close(self) -> None:
        """Release the connection; commits nothing."""


class Producer(Protocol):
    """Writes to any topic."""

    def create_topic(self, topic: str, partitions: int) -> None:
        """Make sure the topic exists with at least so many partitions; never fewer than before."""

    def produce(self, topic: str, messages: Sequence[OutMessage]) -> None:
        """Hand over messages, in order per partition; all of them or, on an error, none.

        Partition = a stable hash of the key. BrokerFull or another Transient: retry later.
        """

    def flush(self, timeout_s: float) -> None:
        """Return when everything produced is durable; Transient after ``timeout_s``."""

    def close(self) -> None:
        """Release the connection."""
