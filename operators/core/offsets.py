"""Where a source stands in each partition of its topic, and what the broker no longer has. Pure."""

from __future__ import annotations

import numpy as np

from operators.core.watermark import EventClock
from sda_pipeline.broker.port import Batch
from sda_pipeline.records.frames import Counts, Part
from sda_pipeline.records.generations import begun_anew, life_of


class Offsets:
    """Next offset and generation by partition; identity of a record is (generation, partition,
    offset).
    """

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self.next = {part.partition: part.next_offset for part in parts}
        self.generations = {part.partition: part.generation for part in parts}

    def locate(
        self, partition: int, life: int, start: int, end: int | None = None, unread: int = 0
    ) -> Counts:
        """Set the position a consumer must seek to; returns what is missing in between.

        ``life`` is the number by which the broker tells this partition from one that was deleted.
        A partition the log does not know begins at the log start, nothing missing. Another life,
        or an ``end`` below our position (truncated), begins anew, with the next generation. What
        was ``unread`` of another life is missing; of a truncated one nobody knows what it was.
        Below the log start: what lies between is missing.
        """
        if partition not in self.next:
            self.next[partition], self.generations[partition] = start, life
            return Counts()
        known = self.generations[partition]
        truncated = end is not None and self.next[partition] > end
        if life != life_of(known) or truncated:
            self.next[partition], self.generations[partition] = 0, begun_anew(known, life)
        gone = max(0, start - self.next[partition])
        self.next[partition] += gone
        missing = gone + (unread if life != life_of(known) else 0)
        return Counts(read=missing, missing=missing)

    def consumed(self, batch: Batch) -> set[int]:
        """Move past a batch; returns the partitions it touched."""
        touched = set(np.unique(batch.partitions).tolist())
        for partition in touched:
            newest = int(batch.offsets[batch.partitions == partition].max())
            self.next[partition] = newest + 1
        return touched

    def passed(self, partition: int, offset: int) -> None:
        """Nothing more comes below ``offset``."""
        self.next[partition] = max(self.next[partition], offset)

    def parts(self, clock: EventClock) -> tuple[Part, ...]:
        """Where every partition stands now, for the next frame."""
        return tuple(
            Part(partition, self.generations[partition], offset, clock.watermarks[partition])
            for partition, offset in sorted(self.next.items())
        )
