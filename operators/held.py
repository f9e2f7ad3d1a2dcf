"""Rows that the correlator has applied and committed, and dies of when it evaluates them later.

``Held.search`` names one; the supervisor writes it down. ``take_out`` removes from a store, on the
next start and whatever rung it came from, every retained row that is written down. A row that is
deadly when it arrives is found by the correlator's own probe.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from operators.core.correlation import Correlation
from operators.core.quarantined import Coordinates, generations_of
from operators.core.schedule import pane_of
from operators.core.step_effects import Effects, RowKey
from operators.guard import Guard
from sda_pipeline.astro.encounter import Scheduled
from sda_pipeline.errors import StateCorrupt, Unreachable
from sda_pipeline.limits import PANES_PER_ENCOUNTER
from sda_pipeline.log.source_log import read_log
from sda_pipeline.records.frames import parse_payload
from sda_pipeline.records.rows import ROW, Rows
from sda_pipeline.runtime.in_flight import Culprit
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.state.recovery import LOGS
from sda_pipeline.state.store import Changes, CorrelatorStore


class _Case(NamedTuple):
    """An open encounter and the rows (m,) it can use, with the objects they are of."""

    encounter: Scheduled
    objects: npt.NDArray[np.int64]
    rows: Rows


class Held:
    """What a suspect correlator holds, as cases that a child evaluates one by one."""

    def __init__(self, worker: Worker, core: Correlation, epoch: int) -> None:
        self._worker, self._core, self._epoch = worker, core, epoch

    def search(self, guard: Guard, stored: Iterable[tuple[RowKey, bytes]]) -> None:
        """Find the encounter whose evaluation kills, then the first of its rows without which it
        does not. SdaError, naming it to the supervisor, when there is one.
        """
        cases = [self._case(encounter) for encounter in self._core.tracked]
        if not cases:
            return
        deadly = guard.search(
            len(cases), lambda at: self._evaluate(cases[at]), event="probing_encounters"
        )
        if deadly is None:
            return
        whole = cases[deadly.number]
        fewer = [
            _Case(whole.encounter, whole.objects[:k], whole.rows[:k])
            for k in range(1, len(whole.rows) + 1)
        ]
        found = guard.search(
            len(fewer), lambda at: self._evaluate(fewer[at]), event="probing_rows_held"
        )
        if found is not None:  # else it died of something that was not the rows
            guard.accuse(self._culprit(fewer[found.number].rows[-1], stored), found)

    def pass_failpoint(self) -> None:
        """The rows of every open encounter pass, if any is watched for."""
        if self._worker.armed("evaluated"):
            for encounter in self._core.tracked:
                self._worker.fail_rows(self._case(encounter).rows, "evaluated")

    def _case(self, encounter: Scheduled) -> _Case:
        last = pane_of(encounter.tca_ns)
        panes = range(last - PANES_PER_ENCOUNTER + 1, last + 1)
        both = (encounter.low_index, encounter.high_index)
        rows = [self._core.window.rows_of(index, panes) for index in both]
        objects = np.repeat(np.array(both, np.int64), [len(of_one) for of_one in rows])
        return _Case(encounter, objects, np.concatenate(rows))

    def _evaluate(self, case: _Case) -> None:
        """Evaluate and emit one case alone; in a copy of the process."""
        self._worker.fail_rows(case.rows, "evaluated")
        self._core.isolate(case.encounter, case.objects, case.rows)
        self._core.evaluate(self._epoch, self._worker.clock.wall_ns(), Effects())

    def _culprit(self, row: np.void, stored: Iterable[tuple[RowKey, bytes]]) -> Culprit:
        """Where a retained row came from."""
        wanted = row.tobytes()
        key = next(key for key, data in stored if wanted in _each(data))
        source, _ = key
        partition = int(row["partition"])
        generation = _generations(self._worker, self._core, key).get(partition, 0)
        index = self._worker.topology.sources.index(source)
        return Culprit(index, generation, partition, int(row["offset"]))


def take_out(worker: Worker, core: Correlation, store: CorrelatorStore) -> None:
    """Remove retained rows that are in quarantine, in one transaction; their class changes with
    them, so the sum of the classes stays. ``core`` has its positions and no rows yet.
    """
    changed: dict[RowKey, bytes] = {}
    taken: list[tuple[str, bytes]] = []
    for key, data in store.rows() if any(core.quarantined.values()) else ():
        rows = np.frombuffer(data, ROW)
        gone = _marked(worker, core, key, rows)
        if gone.any():
            changed[key] = rows[~gone].tobytes()
            taken += [(key[0], row.tobytes()) for row in rows[gone]]
    if not changed:
        return
    kept: dict[bytes, str] = {}  # what stays, by identity, and the source of the first
    for key, data in store.rows():
        for row in np.frombuffer(changed.get(key, data), ROW):
            kept.setdefault(_identity(row), key[0])
    sources = {source for source, _ in taken}
    for source, raw in taken:
        identity = _identity(np.frombuffer(raw, ROW)[0])
        sources.add(_reclass(core, source, kept.get(identity)))
        kept.setdefault(identity, source)  # further ones of it were duplicates
    store.commit(
        Changes(
            rows=[(key, data) for key, data in changed.items() if data],
            rows_gone=[key for key, data in changed.items() if not data],
            positions={s: msgspec.msgpack.encode(core.positions[s]) for s in sorted(sources)},
        ),
        lambda: None,
    )
    worker.event("rows_taken_out", rows=len(taken), sources=sorted(sources))


def _reclass(core: Correlation, source: str, twin: str | None) -> str:
    """Count one row of ``source`` as quarantined; ``twin``: whose row with its identity counts on.

    Of several with one identity, one is applied and the others are duplicates: a twin that stays
    takes its place. Returns the source whose duplicate became the applied one.
    """
    position = core.positions[source]
    position.quarantined += 1
    if twin is None:
        position.applied -= 1
        return source
    if position.duplicate:
        position.duplicate -= 1
        return source
    position.applied -= 1
    other = core.positions[twin]
    other.duplicate, other.applied = other.duplicate - 1, other.applied + 1
    return twin


def _marked(worker: Worker, core: Correlation, key: RowKey, rows: Rows) -> npt.NDArray[np.bool_]:
    """Which rows stored under a key are in quarantine; bool (m,)."""
    wanted = core.quarantined.get(key[0], set())
    offsets = np.array([offset for _, _, offset in wanted], np.int64)
    gone = np.isin(rows["offset"], offsets)
    if gone.any():
        generations = _generations(worker, core, key)
        for at in np.flatnonzero(gone).tolist():
            partition, offset = int(rows["partition"][at]), int(rows["offset"][at])
            where: Coordinates = (generations.get(partition, 0), partition, offset)
            gone[at] = where in wanted
    return gone


def _generations(worker: Worker, core: Correlation, key: RowKey) -> dict[int, int]:
    """The generations that the rows of a frame are of: by the log, else the present ones."""
    source, position = key
    found = {part.partition: part.generation for part in core.positions[source].parts}
    try:
        log = read_log(worker.topology.state / LOGS / source)
        if log.first <= position <= log.end:
            record = log.read(position)
            found |= generations_of(parse_payload(record.header, record.payload))
    except (StateCorrupt, Unreachable, OSError):
        pass  # gone or damaged: its own start says so
    return found


def _identity(row: np.void) -> bytes:
    """(object, pane, id): what makes two rows the same observation."""
    return b"".join(
        (row["sat"].tobytes(), pane_of(int(row["t"])).to_bytes(8, "little"), row["id"].tobytes())
    )


def _each(data: bytes) -> list[bytes]:
    return [data[at : at + ROW.itemsize] for at in range(0, len(data), ROW.itemsize)]
