"""Reading again what a source has consumed: its second door to the broker. Not the stream itself.

It never waits: what has not come yet is asked for again in a later turn, so the stream goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from operators.core.batch import EMPTY, take
from operators.core.spans import Span
from sda_pipeline.broker.port import Batch, Consumer, OffsetOutOfRange
from sda_pipeline.errors import Transient, Unreachable
from sda_pipeline.limits import BATCH_MESSAGES_MAX, BATCH_RAW_BYTES_MAX
from sda_pipeline.records.generations import life_of

Present = Callable[[int], int | None]  # the generation in which the source stands in a partition


class Piece(NamedTuple):
    """The front of a span: its messages, the next offset to ask for, and how many offsets before
    that are gone. Nothing of the three: try again later.
    """

    batch: Batch
    next: int
    gone: int


class Lookback:
    """One source's. Open only while something is asked for."""

    def __init__(
        self, open_consumer: Callable[[], Consumer] | None, present: Present = lambda _: None
    ) -> None:
        self._open, self._present = open_consumer, present
        self._consumer: Consumer | None = None
        self._stands: tuple[int, int, int] | None = None  # partition, generation, next offset

    def read(self, span: Span) -> Piece:
        """What has come of a span's front.

        Gone is what lies in another generation, below the log's start, or above its end; that
        nothing comes proves nothing.
        """
        try:
            return self._read(span)
        except OffsetOutOfRange as error:
            self._stands = None
            if error.partition != span.partition:
                return Piece(EMPTY, span.first, 0)
            start = error.start if error.start > span.first else span.end
            return _gone(span, min(start, span.end))
        except (Transient, Unreachable):  # the stream meets the same, and tells
            self.close()
            return Piece(EMPTY, span.first, 0)

    def _read(self, span: Span) -> Piece:
        place = (span.partition, span.generation, span.first)
        assert self._open is not None, "its source was opened without a way to do this"
        consumer = self._consumer = self._consumer or self._open()
        if self._stands != place:
            if (piece := self._missing(consumer, span)) is not None:
                return piece
            _seek(consumer, span)
            self._stands = place
        batch = consumer.consume(BATCH_MESSAGES_MAX, BATCH_RAW_BYTES_MAX, 0.0)
        here = batch.partitions == span.partition
        if not here.any():  # never seek again: that would drop what is on its way
            return self._missing(consumer, span) or Piece(EMPTY, span.first, 0)
        offsets = batch.offsets[here]
        newest = int(offsets.max()) + 1
        self._stands = (span.partition, span.generation, newest)
        wanted = here & (batch.offsets >= span.first) & (batch.offsets < span.end)
        reached = max(span.first, min(newest, span.end))
        return Piece(take(batch, np.flatnonzero(wanted)), reached, 0)

    def _missing(self, consumer: Consumer, span: Span) -> Piece | None:
        """The front of a span that the broker has no more; None when there is nothing of that."""
        partition = span.partition
        if (
            partition not in consumer.partitions()
            or consumer.generation(partition) != life_of(span.generation)
            or self._present(partition) not in (None, span.generation)  # truncated since
        ):
            return _gone(span, span.end)
        start = consumer.log_start(partition)
        return _gone(span, min(start, span.end)) if start > span.first else None

    def close(self) -> None:
        """Give the consumer back until something is asked for again."""
        if self._consumer is not None:
            self._consumer.close()
        self._consumer = self._stands = None


def _seek(consumer: Consumer, span: Span) -> None:
    """Go to a span, and with the other partitions to their ends: nothing of them is wanted."""
    for other in consumer.partitions():
        consumer.generation(other)  # as of now: a seek means it
        consumer.seek(other, consumer.log_start(other))
    for other, behind in consumer.lag().items():
        if behind:
            consumer.seek(other, consumer.log_start(other) + behind)
    consumer.seek(span.partition, span.first)


def _gone(span: Span, end: int) -> Piece:
    return Piece(EMPTY, end, end - span.first)
