"""The correlator's core: ``apply(frames)`` and ``evaluate(now) -> effects``. No I/O, clock or
randomness.

Final alerts are a pure function of the applied rows: whatever the arrival order, batch cut or crash
schedule, the same rows in the same panes give the same finals. The shell around it is
operators/correlator.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from operators.core import alerts
from operators.core.alerts import AlertState, Context
from operators.core.evaluation import Evaluation, evaluate
from operators.core.positions import SourcePosition
from operators.core.quarantined import Coordinates, without
from operators.core.schedule import OpenAlert, Schedule, pane_of, tau
from operators.core.step_effects import Effects, RowKey
from operators.core.window import Window
from sda_pipeline.astro.catalogue import Catalogue, prior_sigma
from sda_pipeline.astro.encounter import Scheduled
from sda_pipeline.limits import (
    CLOSED_ALERT_KEPT_NS,
    PANE_NS,
    PANES_PER_ENCOUNTER,
    SCHEDULE_AHEAD_NS,
    SECOND_NS,
)
from sda_pipeline.records.frames import KIND_END, Frame
from sda_pipeline.records.rows import Rows
from sda_pipeline.settings import EventTime, Physics


class Correlation:
    """Everything the correlator knows.

    Rebuilt from the store on open, then changed by two verbs.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        physics: Physics,
        event_time: EventTime,
        sources: Sequence[str],
        catalogue_hash: int,
        adopted: Iterable[OpenAlert] = (),
    ) -> None:
        self.positions = {source: SourcePosition(catalogues=()) for source in sources}
        self.alerts: dict[str, AlertState] = {}
        self.closed_to = 0  # C up to which finals were emitted, ns
        self.quarantined: dict[str, set[Coordinates]] = {}  # by source; never applied
        self.schedule = Schedule(catalogue, physics, adopted)
        self.window = Window()
        self._catalogue, self._physics = catalogue, physics
        self._hash = catalogue_hash
        self._lateness_ns = round(event_time.allowed_lateness_s * SECOND_NS)
        self._sigma = prior_sigma(catalogue, physics)
        self._stored: dict[RowKey, int] = {}  # newest pane of the rows stored under a key
        self._tracked: dict[str, Scheduled] = {}  # open encounters with rows
        self._evaluations: dict[str, Evaluation | None] = {}
        self._dirty: dict[str, Scheduled] = {}
        self._lowering: set[str] = set()  # stand below what was emitted; event time may lower them

    @property
    def dirty(self) -> int:
        """Encounters whose rows changed since their last evaluation, plus closings that are due."""
        closing = self.closable() is not None
        return len(self._dirty) + closing

    @property
    def pending(self) -> bool:
        """Whether an evaluation could emit anything."""
        return self.dirty > 0 or bool(self._lowering)

    @property
    def watermark(self) -> int | None:
        """Minimum over the sources; None until each has reported."""
        marks = [position.watermark for position in self.positions.values()]
        return None if None in marks or not marks else min(m for m in marks if m is not None)

    def closable(self) -> int | None:
        """The pane boundary that finality has crossed since the last evaluation, or None. ns."""
        watermark = self.watermark
        if watermark is None:
            return None
        boundary = (watermark - self._lateness_ns) // PANE_NS * PANE_NS
        return boundary if boundary > self.closed_to else None

    # --- apply ------------------------------------------------------------------------------

    def restore(self, stored: Sequence[tuple[RowKey, Rows]]) -> None:
        """Put back all rows that the store kept; every open encounter they touch becomes dirty."""
        if not stored:
            return
        for key, rows in stored:
            self._stored[key] = int(rows["t"].max()) // PANE_NS
        every = np.concatenate([rows for _, rows in stored])
        _, changed = self.window.insert(self._catalogue.index(every["sat"]), every)
        panes = {pane for _, pane in changed}
        closed = pane_of(self.closed_to)
        for pane in sorted({p + ahead for p in panes for ahead in range(PANES_PER_ENCOUNTER)}):
            if pane >= closed:
                self.schedule.compute(pane)
        self._touch(changed)

    def apply(self, frames: Iterable[tuple[str, Frame]], effects: Effects) -> None:
        """Apply frames, each exactly at its source's position + 1."""
        for source, frame in frames:
            position = self.positions[source]
            header = frame.header
            assert header.position == position.position + 1, (
                "the shell drops repeats and rewinds gaps"
            )
            position.move_to(header)
            position.watermark = header.watermark
            position.parts, position.counts = frame.parts, frame.counts.as_tuple()
            position.ended = position.ended or header.kind == KIND_END
            position.shed += header.logged - header.rows
            effects.sources.add(source)
            if header.rows == 0:
                continue
            if header.catalogue != self._hash:
                position.superseded += header.rows
                continue
            rows = self.admitted(source, frame)
            position.quarantined += header.rows - len(rows)
            self._apply_rows(source, position, rows, effects)

    def admitted(self, source: str, frame: Frame) -> Rows:
        """The rows of a frame that may be applied: all but the quarantined ones."""
        return without(frame, self.quarantined.get(source))

    def rehearse(self, source: str, rows: Rows, epoch: int, now_ns: int) -> None:
        """Apply rows (m,), outside of any frame, and evaluate: in a copy that is thrown away."""
        effects = Effects()
        self._apply_rows(source, self.positions[source], rows, effects)
        self.evaluate(epoch, now_ns, effects)

    def isolate(self, encounter: Scheduled, index: npt.NDArray[np.int64], rows: Rows) -> None:
        """Know one open encounter only, on these rows (m,): in a copy that is thrown away."""
        self.window = Window()
        self.window.insert(index, rows)
        self._evaluations.clear()
        self._dirty = {encounter.alert_id: encounter}
        self._tracked = dict(self._dirty)
        self._lowering &= self._tracked.keys()

    @property
    def tracked(self) -> list[Scheduled]:
        """The open encounters that have rows, in the order in which they are evaluated."""
        return sorted(self._tracked.values(), key=_by_tca)

    def _apply_rows(
        self, source: str, position: SourcePosition, rows: Rows, effects: Effects
    ) -> None:
        index = self._catalogue.index(rows["sat"])
        paired = self._paired(index, rows["t"] // PANE_NS)
        position.unpaired += len(rows) - int(paired.sum())
        if not paired.any():
            return
        kept = rows[paired]
        key = (source, position.position)
        added = self._retain(key, index[paired], kept)
        position.applied += added
        position.duplicate += len(kept) - added
        effects.rows.append((key, kept.tobytes()))

    def _paired(
        self, index: npt.NDArray[np.int64], panes: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Rows whose object has a scheduled encounter that could use their pane; bool (m,)."""
        paired = np.zeros(len(index), dtype=np.bool_)
        for pane in np.unique(panes).tolist():
            here = panes == pane
            paired[here] = self.schedule.needed(pane)[index[here]]
        return paired & (index >= 0)

    def _retain(self, key: RowKey, index: npt.NDArray[np.int64], rows: Rows) -> int:
        newest = int(rows["t"].max()) // PANE_NS
        self._stored[key] = max(newest, self._stored.get(key, newest))
        added, changed = self.window.insert(index, rows)
        self._touch(changed)
        return added

    def _touch(self, changed: Iterable[tuple[int, int]]) -> None:
        """The open encounters that can use these (object, pane) are to be evaluated again."""
        for index, pane in changed:
            for encounter in self.schedule.users(index, pane):
                if tau(pane_of(encounter.tca_ns)) > self.closed_to:
                    self._dirty[encounter.alert_id] = encounter
                    self._tracked[encounter.alert_id] = encounter

    def prefetch(self) -> bool:
        """Compute one missing pane of the schedule ahead of event time; False when none is."""
        watermark = self.watermark
        if watermark is None or any(position.ended for position in self.positions.values()):
            return False
        first = pane_of(watermark)
        for pane in range(first, first + SCHEDULE_AHEAD_NS // PANE_NS):
            if not self.schedule.computed(pane):
                self.schedule.compute(pane)
                return True
        return False

    # --- evaluate ---------------------------------------------------------------------------

    def evaluate(self, epoch: int, now_ns: int, effects: Effects) -> None:
        """Evaluate what is dirty, emit what changed, close what no accepted row can change."""
        context = Context(self._catalogue, self._physics, self._hash, epoch, now_ns)
        dirty = sorted(self._dirty.values(), key=_by_tca)
        self._dirty.clear()
        self._evaluations.update(
            evaluate(dirty, self.window, self._sigma, self._catalogue.period_s, self._physics)
        )
        boundary = self.closable()
        closed_to = self.closed_to if boundary is None else boundary
        watermark = self.watermark
        due = dict.fromkeys([e.alert_id for e in dirty] + sorted(self._lowering))
        for alert_id in due:
            encounter = self._tracked.get(alert_id)
            if encounter is not None and tau(pane_of(encounter.tca_ns)) > closed_to:
                self._emit_provisional(encounter, watermark or 0, context, effects)
        if boundary is not None:
            self._close(boundary, context, effects)

    def _emit_provisional(
        self, encounter: Scheduled, watermark: int, context: Context, effects: Effects
    ) -> None:
        alert_id = encounter.alert_id
        state = self._state_of(encounter)
        evaluation = self._evaluations.get(alert_id)
        records = alerts.provisional(state, evaluation, watermark, context)
        if records:
            self.alerts[alert_id] = effects.alerts[alert_id] = state
            effects.emitted.append(records)
        if alerts.wants_downgrade(state, evaluation):
            self._lowering.add(alert_id)
        else:
            self._lowering.discard(alert_id)

    def _state_of(self, encounter: Scheduled) -> AlertState:
        """The state of an encounter; one adopted from an older catalogue follows the new TCA."""
        state = self.alerts.get(encounter.alert_id)
        if state is None:
            return alerts.fresh_state(encounter, self._hash)
        state.tca_ns, state.catalogue = encounter.tca_ns, self._hash
        return state

    def _close(self, boundary: int, context: Context, effects: Effects) -> None:
        """Finals of everything whose pane ended at or before the boundary, then closed_through."""
        closing = {
            e.alert_id: tau(pane_of(e.tca_ns))
            for e in self._tracked.values()
            if tau(pane_of(e.tca_ns)) <= boundary
        }
        for state in self.alerts.values():
            if not state.final and state.alert_id not in self._tracked and state.closes <= boundary:
                closing[state.alert_id] = state.closes
        for alert_id in sorted(closing, key=lambda a: (closing[a], a)):
            encounter = self._tracked.pop(alert_id, None)
            evaluation = self._evaluations.pop(alert_id, None)
            self._lowering.discard(alert_id)
            state = self._state_of(encounter) if encounter else self.alerts[alert_id]
            records = alerts.final(state, evaluation, context)
            if records:
                self.alerts[alert_id] = effects.alerts[alert_id] = state
                effects.emitted.append(records)
        self.closed_to = effects.closed_to = boundary
        effects.emitted.append(boundary)
        self._forget(boundary, effects)

    def _forget(self, boundary: int, effects: Effects) -> None:
        """Drop rows no open encounter can use, and alerts closed more than an hour ago."""
        oldest = pane_of(boundary) - (PANES_PER_ENCOUNTER - 1)
        self.window.forget_before(oldest)
        self.schedule.forget_before(pane_of(boundary))
        for key in [key for key, pane in self._stored.items() if pane < oldest]:
            del self._stored[key]
            effects.rows_gone.append(key)
        for alert_id, state in list(self.alerts.items()):
            if state.final and state.closes + CLOSED_ALERT_KEPT_NS < boundary:
                del self.alerts[alert_id]
                effects.alerts.pop(alert_id, None)
                effects.alerts_gone.append(alert_id)


def _by_tca(encounter: Scheduled) -> tuple[int, str]:
    return encounter.tca_ns, encounter.alert_id
