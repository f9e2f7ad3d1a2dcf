"""Quarantined records at their source: withheld when consumed, reported when only the correlator
skipped them. How they are counted is told in ``sda_pipeline/dlq/quarantine_file.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from operators.core.batch import reject_at, take
from operators.core.spans import Span
from operators.lookback import Lookback
from sda_pipeline.broker.port import Batch
from sda_pipeline.dlq.quarantine_file import NAME, Line, read_quarantine
from sda_pipeline.limits import DEATHS_BEFORE_PROBE
from sda_pipeline.records.rejects import Reject
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.vocabulary import ErrorKind


class Withheld:
    """What the quarantine file says of one source."""

    def __init__(self, worker: Worker) -> None:
        self._board, self._source = worker.board, worker.name
        self._path = worker.topology.state / NAME
        self._read()

    def _read(self) -> None:
        lines = [line for line in read_quarantine(self._path) if line.source == self._source]
        self._skipped = {line.coordinates: line for line in lines if not line.report}
        self._offsets = np.array([offset for _, _, offset in self._skipped], np.int64)
        self._rows = [line for line in lines if line.report]

    def split(self, batch: Batch, generations: Mapping[int, int]) -> tuple[Batch, list[Reject]]:
        """The batch without the records that kill this source, and these as rejects."""
        near = np.flatnonzero(np.isin(batch.offsets, self._offsets)) if self._skipped else ()
        found: dict[int, Reject] = {}
        for at in map(int, near):
            partition = int(batch.partitions[at])
            coordinates = (generations.get(partition, 0), partition, int(batch.offsets[at]))
            line = self._skipped.get(coordinates)
            if line is not None:
                found[at] = quarantined(batch, at, line)
        if not found:
            return batch, []
        return take(batch, np.delete(np.arange(len(batch.values)), [*found])), [*found.values()]

    def due(self, reported: int) -> list[Line]:
        """Rows that the correlator skips and this source has not reported, in order."""
        if self._board.get(f"{self._source}.quarantined") <= reported:
            return []
        self._read()
        return [line for line in self._rows if line.report > reported]

    def reported(self, reported: int) -> list[Line]:
        """Those that this source has reported, in order."""
        return [line for line in self._rows if line.report <= reported]


def original(line: Line, lookback: Lookback) -> Reject | None:
    """The reject of a record consumed long ago, with its bytes from the broker if it has them.

    None while they have not come: that is no proof that they are gone.
    """
    span = Span(line.partition, line.generation, line.offset, line.offset + 1)
    piece = lookback.read(span)
    if len(piece.batch.values):
        return quarantined(piece.batch, 0, line)
    if piece.next < span.end:
        return None
    return Reject(
        partition=line.partition, generation=line.generation, offset=line.offset, timestamp_ms=0,
        kind=str(ErrorKind.QUARANTINED), key=b"", raw=b"", sensor="", root="", attempts=0,
        message=f"{_message(line)}; the broker no longer has its bytes",
    )  # fmt: skip


def quarantined(batch: Batch, at: int, line: Line) -> Reject:
    """The reject of one message of a batch."""
    return reject_at(batch, at, line.generation, ErrorKind.QUARANTINED, _message(line))


def _message(line: Line) -> str:
    """Rule, value and limit."""
    return (
        f"quarantine: it ended {line.operator} {line.deaths} times in a row, "
        f"the limit is {DEATHS_BEFORE_PROBE}"
    )
