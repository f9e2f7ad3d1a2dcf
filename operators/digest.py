"""A source's step 2: a consumed batch to rows, rejects and counts, whatever its records do.

Records in quarantine are withheld; one that kills the process is found and named. Not durable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from operators.core.batch import fitting, rejects_of, settle, take
from operators.core.offsets import Offsets
from operators.core.reduction import Reducer
from operators.core.watermark import EventClock
from operators.guard import Guard
from operators.lookback import Lookback, Present
from operators.withheld import Withheld, original
from sda_pipeline.broker.port import Batch, Consumer
from sda_pipeline.dlq.quarantine_file import Line
from sda_pipeline.records.frames import Counts
from sda_pipeline.records.rejects import Reject, pack_rejects
from sda_pipeline.records.rows import Rows
from sda_pipeline.runtime.in_flight import BatchAt, Culprit, partition_word
from sda_pipeline.runtime.worker import Worker


class Digested(NamedTuple):
    """What became of a batch: accepted rows, rejects with their bytes, and how they count."""

    rows: Rows
    rejects: list[Reject]
    counts: Counts


class Digester:
    """Step 2 of the source with ``index`` in the topology."""

    def __init__(
        self, worker: Worker, index: int, reducer: Reducer,
        open_again: Callable[[], Consumer] | None = None, present: Present = lambda _: None,
    ) -> None:  # fmt: skip
        self._worker, self._index, self._reducer = worker, index, reducer
        self._open_again, self._present = open_again, present
        self._lookback = self.lookback()
        self._guard, self._withheld = Guard(worker), Withheld(worker)

    def digest(
        self, consumed: Batch, offsets: Offsets, clock: EventClock, ingest_ns: int
    ) -> Digested:
        """Decode, validate, reduce, judge lateness. In flight until ``done``.

        Moves ``clock``; ``offsets`` tells the generations.
        """
        generations = offsets.generations
        first = _name(self._index, consumed, 0, generations)
        self._guard.begin(BatchAt(partition_word(first.generation, first.partition), first.offset))
        batch, withheld = self._withheld.split(consumed, generations)
        batch, large = fitting(batch)
        if self._guard.suspects:
            self._guard.probe(
                len(batch.values),
                lambda at: self._try_alone(batch, at, generations, clock),
                lambda at: _name(self._index, batch, at, generations),
            )
        reduced = self._reducer.reduce(batch.values, batch.timestamps_ms)
        rows, counts = settle(batch, reduced, clock, ingest_ns)
        rejects = rejects_of(batch, reduced, generations) + withheld
        self._worker.fail_rows(rows)
        more = Counts(
            read=len(withheld) + large, quarantined=len(withheld), discarded_oversize=large
        )
        return Digested(rows, rejects, counts.plus(more))

    def _try_alone(
        self, batch: Batch, at: int, generations: dict[int, int], clock: EventClock
    ) -> None:
        """What ``digest`` does, with one message."""
        one = take(batch, np.array([at]))
        reduced = self._reducer.reduce(one.values, one.timestamps_ms)
        rows, _ = settle(one, reduced, clock, 0)
        pack_rejects(rejects_of(one, reduced, generations))
        self._worker.fail_rows(rows)

    def lookback(self) -> Lookback:
        """A way of its own to read again what was consumed."""
        return Lookback(self._open_again, self._present)

    def done(self) -> None:
        """The digested batch is in the log, synced."""
        self._guard.done()

    def next_report(self, reported: int) -> Reject | None:
        """The next row that the correlator skips and this source has not reported; None when there
        is none, or its original has not come yet.
        """
        due = self._withheld.due(reported)
        reject = original(due[0], self._lookback) if due else None
        if len(due) == 1 and reject is not None:
            self._lookback.close()
        return reject

    def refused(self, batch: Batch, generation: int) -> list[Reject]:
        """The rejects of a batch of one generation that was digested before: the same as then."""
        generations = dict.fromkeys(batch.partitions.tolist(), generation)
        kept, withheld = self._withheld.split(batch, generations)
        kept, _ = fitting(kept)
        reduced = self._reducer.reduce(kept.values, kept.timestamps_ms)
        return rejects_of(kept, reduced, generations) + withheld

    def reported(self, reported: int) -> list[Line]:
        """The rows that the correlator skips, as far as this source has reported them."""
        return self._withheld.reported(reported)


def _name(index: int, batch: Batch, at: int, generations: Mapping[int, int]) -> Culprit:
    partition = int(batch.partitions[at])
    return Culprit(index, generations.get(partition, 0), partition, int(batch.offsets[at]))
