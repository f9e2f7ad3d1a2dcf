"""Sources and correlator joined in one process by plain calls: messages in, records out. No tests.

Only the pure steps of the operators, in their order; no files, rings or clocks. For scenarios that
ask what the pipeline concludes, not how it survives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from operators.core.alerts import AlertState
from operators.core.batch import Built, Source, build_frame, settle
from operators.core.correlation import Correlation
from operators.core.positions import SourcePosition
from operators.core.reduction import Reducer
from operators.core.step_effects import Effects, RowKey
from operators.core.watermark import EventClock
from sda_pipeline.astro.catalogue import Catalogue
from sda_pipeline.astro.trajectory import Trajectory
from sda_pipeline.broker.port import Batch
from sda_pipeline.cli.sim.traffic import Message
from sda_pipeline.limits import SECOND_NS, TIME_END_NS
from sda_pipeline.records.alert import EPOCH_SHIFT, Entry, entry_of_closed, entry_of_records
from sda_pipeline.records.frames import KIND_END, KIND_ROWS, Counts, Frame, Part, parse_payload
from sda_pipeline.records.observations import TOPICS
from sda_pipeline.records.rows import ROW, Rows, uuid_text
from sda_pipeline.sensors import SensorRegistry
from sda_pipeline.settings import ISL, KIND_NAMES, OPTICAL, RADAR, EventTime, Physics

CATALOGUE_HASH, LOG_ID, EPOCH = 0xCA7A, 1, 1
KINDS = (RADAR, OPTICAL, ISL)
encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode


class World(NamedTuple):
    """What a topology names: the catalogue, the sensors, the settings."""

    catalogue: Catalogue
    sensors: SensorRegistry
    physics: Physics
    event_time: EventTime


class InlineSource:
    """One source: reduce, judge lateness, build the frame. ``late`` collects the ids it dropped."""

    def __init__(
        self, index: int, kind: int, world: World, partitions: Iterable[int] = (0,)
    ) -> None:
        self.name = KIND_NAMES[kind]
        self._source = Source(index, LOG_ID, CATALOGUE_HASH, never_shed=True)
        trajectory = Trajectory(world.catalogue)
        self._reducer = Reducer(kind, world.catalogue, trajectory, world.sensors, world.physics)
        self.clock = EventClock(
            round(world.event_time.max_lateness_s[self.name] * SECOND_NS),
            round(world.event_time.allowed_lateness_s * SECOND_NS),
        )
        self._offsets = dict.fromkeys(partitions, 0)
        for partition in self._offsets:
            self.clock.add(partition)
        self.counts, self.position = Counts(), 0
        self.late: set[str] = set()

    def deliver(
        self, values: Sequence[bytes], stamps_ms: Sequence[int], partitions: Sequence[int] = ()
    ) -> Built:
        """The frame of one consumed batch; nothing in it may be rejected."""
        of = np.array(partitions or [0] * len(values), np.int32)
        offsets = [self._next_offset(partition) for partition in of.tolist()]
        stamps = np.array(stamps_ms, np.int64)
        batch = Batch(of, np.array(offsets, np.int64), stamps, [b""] * len(of), [*values], [])
        reduced = self._reducer.reduce(batch.values, stamps)
        assert reduced.rejects == [], reduced.rejects[:3]
        names = [uuid_text(row["id"]) for row in reduced.rows]
        rows, counts = settle(batch, reduced, self.clock, ingest_ns=0)
        self.late |= {*names} - {uuid_text(row["id"]) for row in rows}
        self.counts = self.counts.plus(counts)
        return self._frame(KIND_ROWS, self.clock.source_watermark(), rows)

    def end(self) -> Built:
        """The END frame."""
        return self._frame(KIND_END, TIME_END_NS, None)

    def _next_offset(self, partition: int) -> int:
        self._offsets[partition] += 1
        return self._offsets[partition] - 1

    def _frame(self, kind: int, watermark: int, rows: Rows | None) -> Built:
        self.position += 1
        parts = tuple(
            Part(p, 0, offset, self.clock.watermarks[p]) for p, offset in self._offsets.items()
        )
        return build_frame(
            self._source, kind, self.position, watermark, 0, parts, self.counts, rows
        )


def opened(built: Built) -> Frame:
    """A frame as the correlator reads it."""
    return parse_payload(built.header, built.payload)


class InlineCorrelator:
    """The correlator's core with its effects kept: what was emitted, and the finals by alert."""

    def __init__(self, world: World, sources: Sequence[str]) -> None:
        self.core = Correlation(
            world.catalogue, world.physics, world.event_time, sources, CATALOGUE_HASH
        )
        self.records: list[dict[str, Any]] = []

    def step(self, frames: Iterable[tuple[str, Built]], *, evaluate: bool = True) -> None:
        """Apply frames, then evaluate."""
        effects = Effects()
        self.core.apply(((name, opened(built)) for name, built in frames), effects)
        if evaluate:
            self.core.evaluate(EPOCH, 0, effects)
        for emitted in effects.emitted:
            self.records += emitted if isinstance(emitted, list) else []

    @property
    def finals(self) -> dict[str, dict[str, Any]]:
        """Final inserts by alert id."""
        found = [r for r in self.records if r["final"] and r["action"] == "insert"]
        assert len({r["alert_id"] for r in found}) == len(found), "one final an alert"
        return {r["alert_id"]: r for r in found}


class InlineStore:
    """What the correlator's commits have left: bytes only, so that nothing else survives a kill."""

    def __init__(self) -> None:
        self._rows: dict[RowKey, bytes] = {}
        self._positions: dict[str, bytes] = {}
        self._alerts: dict[str, bytes] = {}
        self._closed_to = 0
        self.outbox: list[Entry] = []

    def commit(self, core: Correlation, effects: Effects) -> list[Entry]:
        """Keep one step's effects; the new outbox entries."""
        self._rows |= dict(effects.rows)
        for key in effects.rows_gone:
            self._rows.pop(key, None)
        self._positions |= {s: encode(core.positions[s]) for s in effects.sources}
        self._alerts |= {alert: encode(state) for alert, state in effects.alerts.items()}
        for alert in effects.alerts_gone:  # it may have come and gone in one step
            self._alerts.pop(alert, None)
        self._closed_to = core.closed_to
        first = (EPOCH << EPOCH_SHIFT) + len(self.outbox) + 1
        new = [
            entry_of_closed(at, emitted)
            if isinstance(emitted, int)
            else entry_of_records(at, emitted)
            for at, emitted in enumerate(effects.emitted, first)
        ]
        self.outbox += new
        return new

    def restore(self, core: Correlation) -> None:
        """Put a new incarnation where the last commit stood."""
        core.positions.update(
            {s: decode(b, type=SourcePosition) for s, b in self._positions.items()}
        )
        core.alerts.update({alert: decode(b, type=AlertState) for alert, b in self._alerts.items()})
        core.closed_to = self._closed_to
        core.restore([(key, np.frombuffer(data, ROW)) for key, data in sorted(self._rows.items())])


def play(world: World, messages: Sequence[Message], batch: int = 2000) -> dict[str, dict[str, Any]]:
    """The finals of a recording, consumed to its end; nothing in it may be rejected or late."""
    sources = {kind: InlineSource(index, kind, world) for index, kind in enumerate(KINDS)}
    correlator = InlineCorrelator(world, [s.name for s in sources.values()])
    for first in range(0, len(messages), batch):
        part = messages[first : first + batch]
        frames = []
        for kind, source in sources.items():
            mine = [m for m in part if m.topic == TOPICS[kind]]
            if mine:
                built = source.deliver([m.value for m in mine], [m.timestamp_ms for m in mine])
                frames.append((source.name, built))
        correlator.step(frames)
    assert sum(source.counts.late for source in sources.values()) == 0
    correlator.step((source.name, source.end()) for source in sources.values())
    return correlator.finals
