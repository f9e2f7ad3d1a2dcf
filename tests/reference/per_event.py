"""The pipeline's maths in one plain loop, an event at a time: the baseline of ``make bench``.

JSON bytes in, final alerts out, in one process, nothing durable. Everything but the schedule
(shared with the fast core: a pure function of the catalogue) is the slow reference's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sda_pipeline.astro.catalogue import Catalogue
from sda_pipeline.astro.encounter import NodeCache, schedule_pane
from sda_pipeline.records.observations import TOPICS
from sda_pipeline.sensors import SensorRegistry
from sda_pipeline.settings import EventTime, Physics
from tests.reference.slow_correlator import (
    LOOKAHEAD,
    WINDOW,
    Evaluation,
    Store,
    bytes_of,
    evaluate,
)
from tests.reference.slow_geometry import SECOND, pane
from tests.reference.slow_measurement import Refused
from tests.reference.slow_schedule import Encounter
from tests.reference.slow_source import Lateness, Row, reduce

Message = tuple[str, bytes, int, int, int]  # topic, value, timestamp ms, partition, offset

KINDS = {topic: kind for kind, topic in TOPICS.items()}
EVALUATE_EVERY = SECOND // 10  # of event time, as the correlator does by the clock
REACH = WINDOW + LOOKAHEAD  # panes j .. j + 11 can use a row of pane j


def run(
    messages: Iterable[Message],
    catalogue: Catalogue,
    sensors: SensorRegistry,
    physics: Physics,
    event_time: EventTime,
) -> tuple[dict[str, dict[str, Any]], int]:
    """All messages, in order, then the end of input.

    Returns the final alerts by alert_id (the fields of SPEC 5 that are not history: no sequence,
    created, catalogue) and the number of messages.
    """
    loop = PerEvent(catalogue, sensors, physics, event_time)
    events = 0
    for topic, value, timestamp_ms, partition, offset in messages:
        loop.take(KINDS[topic], value, timestamp_ms, partition, offset)
        events += 1
    loop.finish()
    return loop.finals, events


class PerEvent:
    """The loop's state, and how many of which class it met."""

    def __init__(
        self,
        catalogue: Catalogue,
        sensors: SensorRegistry,
        physics: Physics,
        event_time: EventTime,
    ) -> None:
        self.finals: dict[str, dict[str, Any]] = {}
        self.counts = dict.fromkeys(("applied", "duplicate", "unpaired", "late", "refused"), 0)
        self._catalogue, self._sensors, self._physics = catalogue, sensors, physics
        self._index = {int(satno): k for k, satno in enumerate(catalogue.satno)}
        self._clocks = {kind: Lateness(kind, event_time) for kind in TOPICS}
        self._allowed = round(event_time.allowed_lateness_s * SECOND)
        self._nodes = NodeCache(catalogue)
        self._schedule: dict[int, dict[int, list[Encounter]]] = {}  # pane -> satNo -> encounters
        self._stored: Store = {}
        self._open: dict[str, Encounter] = {}
        self._current: dict[str, Evaluation | None] = {}
        self._dirty: set[str] = set()
        self._newest = self._evaluated = self._closed = 0

    def take(self, kind: int, value: bytes, timestamp_ms: int, partition: int, offset: int) -> None:
        """One message."""
        try:
            row = reduce(
                kind,
                value,
                timestamp_ms,
                self._catalogue,
                self._index,
                self._sensors,
                self._physics,
            )
        except Refused:
            self.counts["refused"] += 1
            return
        row["partition"], row["offset"] = partition, offset
        if not self._clocks[kind].accept(partition, row["t"]):
            self.counts["late"] += 1
            return
        self._apply(row)
        self._newest = max(self._newest, row["t"])
        if self._newest - self._evaluated >= EVALUATE_EVERY:
            self._evaluated = self._newest
            self._evaluate()
            self._close()

    def finish(self) -> None:
        """The end of input: whatever is open closes."""
        self._evaluate()
        for name in list(self._open):
            self._final(name)

    def _encounters(self, index: int) -> dict[int, list[Encounter]]:
        """The encounters of a pane by object."""
        found = self._schedule.get(index)
        if found is None:
            found = self._schedule[index] = {}
            for e in schedule_pane(self._catalogue, index, self._physics, self._nodes).encounters:
                states = [tuple(x.tolist()) for x in (e.r1, e.v1, e.r2, e.v2)]
                one = Encounter(
                    e.alert_id, e.low, e.high, e.low_index, e.high_index, e.tca_ns, *states
                )
                for sat in (e.low, e.high):
                    found.setdefault(sat, []).append(one)
        return found

    def _apply(self, row: Row) -> None:
        j, sat = pane(row["t"]), row["sat"]
        users = [e for k in range(j, j + REACH) for e in self._encounters(k).get(sat, ())]
        if not users:
            self.counts["unpaired"] += 1
            return
        cell = self._stored.setdefault((sat, j), {})
        other = cell.get(row["id"])
        self.counts["applied" if other is None else "duplicate"] += 1
        if other is not None and bytes_of(other) <= bytes_of(row):
            return
        cell[row["id"]] = row
        for e in users:
            self._open[e.alert_id] = e
            self._dirty.add(e.alert_id)

    def _evaluate(self) -> None:
        for name in sorted(self._dirty):
            e = self._open[name]
            self._current[name] = evaluate(self._stored, e, self._catalogue, self._physics)
        self._dirty.clear()

    def _close(self) -> None:
        """Finals of what no accepted row can change any more; rows nobody can use go."""
        marks = [clock.watermark() for clock in self._clocks.values()]
        if None in marks:
            return
        boundary = pane(min(mark for mark in marks if mark is not None) - self._allowed)
        if boundary <= self._closed:
            return
        self._closed = boundary
        for name in [n for n, e in self._open.items() if pane(e.tca_ns) < boundary]:
            self._final(name)
        for key in [key for key in self._stored if key[1] < boundary - REACH + 1]:
            del self._stored[key]
        for index in [index for index in self._schedule if index < boundary]:
            del self._schedule[index]

    def _final(self, name: str) -> None:
        del self._open[name]
        evaluation = self._current.pop(name, None)
        if evaluation is not None and evaluation.level is not None:
            self.finals[name] = evaluation.record | {"action": "insert", "final": True}
