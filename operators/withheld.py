"""Quarantined records at their source: withheld when consumed, reported when only the correlator
skipped them. How they are counted is told in ``sda_pipeline/dlq/quarantine_file.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from operators.core.batch import EMPTY, reject_at, take
from sda_pipeline.broker.port import Batch, Consumer, OffsetOutOfRange
from sda_pipeline.dlq.quarantine_file import NAME, Line, read_quarantine
from sda_pipeline.limits import BATCH_RAW_BYTES_MAX, DEATHS_BEFORE_PROBE
from sda_pipeline.records.generations import life_of
from sda_pipeline.records.rejects import Reject
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.vocabulary import ErrorKind

FETCH_WITHIN_S = 5.0
FETCH_ATTEMPTS = 8  # other partitions may deliver first


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


def original(
    line: Line, consumer: Consumer, ends: Mapping[int, int], put_back: Callable[[int], None]
) -> Reject:
    """The reject of a record consumed long ago, with its bytes from the broker if it has them.

    ``ends``: where the consumer stands, by partition; ``put_back`` brings a partition there again.
    """
    try:
        batch = _fetch(line, consumer, ends)
    finally:
        for partition in ends:
            put_back(partition)
    if len(batch.values):
        return quarantined(batch, 0, line)
    return Reject(
        partition=line.partition, generation=line.generation, offset=line.offset, timestamp_ms=0,
        kind=str(ErrorKind.QUARANTINED), key=b"", raw=b"", sensor="", root="", attempts=0,
        message=f"{_message(line)}; the broker no longer has its bytes",
    )  # fmt: skip


def _fetch(line: Line, consumer: Consumer, ends: Mapping[int, int]) -> Batch:
    """One message as a batch, EMPTY when the broker has it no more."""
    partition, life = line.partition, life_of(line.generation)
    if partition not in ends or consumer.generation(partition) != life:
        return EMPTY
    lag = consumer.lag()
    for partition, position in ends.items():
        consumer.seek(partition, position + lag.get(partition, 0))  # its end: nothing comes
    try:
        consumer.seek(line.partition, line.offset)
        for _ in range(FETCH_ATTEMPTS):
            batch = consumer.consume(1, BATCH_RAW_BYTES_MAX, FETCH_WITHIN_S)
            if not len(batch.values):
                break
            if int(batch.partitions[0]) == line.partition:
                return batch if int(batch.offsets[0]) == line.offset else EMPTY
    except OffsetOutOfRange:
        pass  # deleted, or the partition began anew
    return EMPTY


def quarantined(batch: Batch, at: int, line: Line) -> Reject:
    """The reject of one message of a batch."""
    return reject_at(batch, at, line.generation, ErrorKind.QUARANTINED, _message(line))


def _message(line: Line) -> str:
    """Rule, value and limit."""
    return (
        f"quarantine: it ended {line.operator} {line.deaths} times in a row, "
        f"the limit is {DEATHS_BEFORE_PROBE}"
    )
