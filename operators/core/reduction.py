"""A batch of messages to rows: decode, validate, reduce (SPEC 1 and 2). Not lateness, not the log.

A row says what one observation knows of its object. Everything after the decode is columns; a batch
gives the same rows, bit for bit, however it is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.core.observables import Columns, Observables
from operators.core.validation import (
    Sieve,
    check_clock,
    check_isl,
    check_numbers,
    check_objects,
    check_reduced,
    check_sensors,
)
from sda_pipeline.astro.catalogue import Catalogue, prior_sigma
from sda_pipeline.astro.measurement import Reduced
from sda_pipeline.astro.trajectory import Trajectory
from sda_pipeline.limits import REDUCE_CHUNK_ROWS, SENSOR_ID_CHARS_MAX
from sda_pipeline.records.rows import ROW, Rows
from sda_pipeline.records.wire import (
    MESSAGE_CHARS_MAX,
    Decoded,
    Discarded,
    Rejected,
    decode_batch,
    shortened,
)
from sda_pipeline.sensors import SensorRegistry
from sda_pipeline.settings import ISL, OPTICAL, RADAR, Physics
from sda_pipeline.vocabulary import ErrorKind

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]


class ReducedBatch(NamedTuple):
    """What became of a batch: every message is in exactly one of rows, rejects and discarded.

    ``rows`` are in batch order, ``index`` (rows,) their positions in the batch; offset, partition
    and ingest are zero, the shell fills them.
    """

    rows: Rows
    index: I8  # type: ignore[assignment]  # shadows tuple.index
    rejects: list[Rejected]
    discarded: list[Discarded]


class _Measured(NamedTuple):
    """The reduction of some rows and their predicted positions (m, 3)."""

    reduced: Reduced
    r: F8


class Reducer:
    """Reduces batches of one kind of observation. Its only state is the trajectory's cache."""

    def __init__(
        self,
        kind: int,
        catalogue: Catalogue,
        trajectory: Trajectory,
        sensors: SensorRegistry,
        physics: Physics,
    ) -> None:
        self.kind = kind
        self._catalogue, self._trajectory = catalogue, trajectory
        self._sensors, self._physics = sensors, physics
        self._prior = prior_sigma(catalogue, physics)
        observables = Observables(sensors, physics.dut1_s)
        self._observable = {
            RADAR: observables.radar,
            OPTICAL: observables.optical,
            ISL: observables.isl,
        }[kind]

    def reduce(self, values: Sequence[bytes], timestamps_ms: I8) -> ReducedBatch:
        """Rows, rejects and discards of a batch; never raises for what a message holds.

        Args:
            values: message payloads (m). timestamps_ms: the broker's message timestamps (m,).
        """
        rows = np.zeros(len(values), ROW)
        index = np.zeros(len(values), np.int64)
        rejects: list[Rejected] = []
        discarded: list[Discarded] = []
        count = 0
        for first in range(0, len(values), REDUCE_CHUNK_ROWS):
            part = slice(first, first + REDUCE_CHUNK_ROWS)
            decoded = decode_batch(self.kind, values[part], first)
            chunk, refused = self._validate(decoded, timestamps_ms)
            accepted, failed = self._reduce_chunk(chunk, rows[count:])
            index[count : count + len(accepted)] = accepted
            count += len(accepted)
            rejects += sorted([*decoded.rejects, *refused, *failed])
            discarded += decoded.discards
        return ReducedBatch(rows[:count], index[:count], rejects, discarded)

    def _validate(self, decoded: Decoded, timestamps_ms: I8) -> tuple[Columns, list[Rejected]]:
        """The rows that may be reduced, and the others' verdicts."""
        sieve = Sieve(decoded.index, decoded.sensors)
        check_numbers(self.kind, decoded, sieve)
        sensor = check_sensors(self.kind, decoded, self._sensors, sieve)
        known = check_objects(decoded, self._catalogue, sieve)
        if self.kind == ISL:
            check_isl(decoded, sieve)
        ahead_max_s = self._physics.clock_ahead_max_s
        check_clock(decoded, timestamps_ms[decoded.index], ahead_max_s, sieve)
        chunk = Columns(
            decoded.index,
            decoded.sensors,
            decoded.ids,
            decoded.sat,
            decoded.t,
            known,
            sensor,
            decoded.numbers,
            decoded.j2000,
            decoded.cov,
        )
        if not sieve.alive.all():
            chunk = chunk.take(sieve.survivors())
        return chunk, sieve.rejects

    def _reduce_chunk(self, chunk: Columns, rows: Rows) -> tuple[I8, list[Rejected]]:
        """Fill ``rows`` from the front. Positions in the batch of those filled; the refused."""
        chunk, measured, rejects = self._measure_all(chunk)
        if measured is None:
            return chunk.index, rejects
        reduced, r = measured
        sieve = Sieve(chunk.index, chunk.sensor_ids)
        check_reduced(reduced, r, sieve)
        if not sieve.alive.all():
            keep = sieve.survivors()
            chunk = chunk.take(keep)
            reduced = Reduced._make(column[keep] for column in reduced)
        out = rows[: len(chunk.index)]
        out["id"], out["t"], out["sat"] = chunk.ids, chunk.t, chunk.sat
        out["info"], out["vec"], out["nis"] = reduced.info, reduced.vec, reduced.nis
        out["sensor"], out["kind"] = chunk.sensor, self.kind
        return chunk.index, rejects + sieve.rejects

    def _measure_all(self, chunk: Columns) -> tuple[Columns, _Measured | None, list[Rejected]]:
        """Reduce a chunk; if that raises, row by row, so that one bad row cannot take the others.

        The rows that were reduced, what they gave (None when there are none), and the rejects.
        """
        if not len(chunk.index):
            return chunk, None, []
        try:
            return chunk, self._measure(chunk), []
        except MemoryError:  # the machine's fault, not the record's
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must name its record
            if len(chunk.index) == 1:
                why = shortened(f"{type(error).__name__}: {error}", MESSAGE_CHARS_MAX)
                sensor = chunk.sensor_ids[0][:SENSOR_ID_CHARS_MAX]
                kind = ErrorKind.PROCESSING_EXCEPTION
                refused = Rejected(int(chunk.index[0]), kind, why, sensor)
                return chunk.take(np.arange(0)), None, [refused]
        alone = [self._measure_all(chunk.take(np.array([k]))) for k in range(len(chunk.index))]
        kept = [k for k, (_, measured, _) in enumerate(alone) if measured is not None]
        rejects = [reject for _, _, rejects in alone for reject in rejects]
        parts = [measured for _, measured, _ in alone if measured is not None]
        whole = _joined(parts) if parts else None
        return chunk.take(np.array(kept, np.int64)), whole, rejects

    def _measure(self, chunk: Columns) -> _Measured:
        """Predict and reduce."""
        r, v = self._trajectory.states(chunk.object, chunk.t)
        with np.errstate(all="ignore"):  # rows that check_reduced will refuse may divide by nothing
            return _Measured(self._observable(chunk, r, v, self._prior[chunk.object]), r)


def _joined(parts: Sequence[_Measured]) -> _Measured:
    """One reduction from those of single rows."""
    columns = zip(*(part.reduced for part in parts), strict=True)
    reduced = Reduced._make(np.concatenate(column) for column in columns)
    return _Measured(reduced, np.concatenate([part.r for part in parts]))
