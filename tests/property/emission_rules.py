"""Watches what the core emits at every prefix and holds it to the rules of SPEC 5, word by word.

Knows nothing of the core's own state: rows, watermarks and levels come from the frames and from the
slow reference. No test.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sda_pipeline.settings import Physics
from tests.property.correlator_rig import EVENT_TIME, SOURCES, Step
from tests.property.scene_rig import scene
from tests.reference.agreement import disagreements
from tests.reference.slow_correlator import (
    RANK,
    Evaluation,
    Store,
    evaluate,
    row_mapping,
    sort_out,
)
from tests.reference.slow_geometry import PANE, SECOND, pane, tau
from tests.reference.slow_schedule import Encounter
from tests.reference.slow_source import Row

ALLOWED = round(EVENT_TIME.allowed_lateness_s * SECOND)


@dataclass
class Alert:
    """One alert as its records tell it."""

    held: str | None = None
    sequence: int = 0
    lowered: int | None = None  # the pane of the last provisional downgrade
    final: bool = False


class Rules:
    """Call it with every committed step. ``seen`` counts what was emitted, by kind."""

    def __init__(self, physics: Physics) -> None:
        self.physics = physics
        self.seen: Counter[str] = Counter()
        self._epoch = 0

    def _begin(self, epoch: int) -> None:
        """A lost store: everything is told anew."""
        self._epoch = epoch
        self.rows: list[Row] = []
        self.marks: dict[str, int] = {}
        self.closed = 0
        self.alerts: dict[str, Alert] = {}
        self.known: dict[str, tuple[frozenset[int], Evaluation | None]] = {}

    def __call__(self, step: Step) -> None:
        if step.epoch != self._epoch:
            self._begin(step.epoch)
        for source, frame in step.frames:
            self.rows += map(row_mapping, frame.rows)
            self.marks[source] = frame.header.watermark
        if not step.evaluated:
            assert step.emitted == [], "nothing may be emitted between evaluations"
            return
        mark = min(self.marks.values()) if len(self.marks) == len(SOURCES) else None
        boundary = (
            self.closed if mark is None else max(self.closed, (mark - ALLOWED) // PANE * PANE)
        )
        entries = self._entries(step.emitted, boundary)
        stored = sort_out(self.rows, scene().encounters).stored
        for e in scene().encounters:
            self._check(e, entries.pop(e.alert_id, None), self._current(stored, e), mark, boundary)
        assert not entries, "an entry about no scheduled encounter"
        self.closed = boundary

    def _entries(
        self, emitted: list[list[dict[str, Any]] | int], boundary: int
    ) -> dict[str, list[dict[str, Any]]]:
        """At most one entry an alert; ``closed_through`` last, exactly when finality moved on."""
        told = [entry for entry in emitted if isinstance(entry, int)]
        assert told == ([boundary] if boundary > self.closed else [])
        assert not told or emitted[-1] == boundary, "closed_through stands after its finals"
        entries: dict[str, list[dict[str, Any]]] = {}
        for entry in emitted:
            if isinstance(entry, int):
                continue
            names = {record["alert_id"] for record in entry}
            assert len(names) == 1, "one entry is about one alert"
            assert names.isdisjoint(entries), "one entry an alert and evaluation"
            entries[names.pop()] = entry
        return entries

    def _current(self, stored: Store, e: Encounter) -> Evaluation | None:
        """The reference's evaluation now; computed again only when its rows changed."""
        last = pane(e.tca_ns)
        cells = [
            stored.get((sat, j), {}) for sat in (e.low, e.high) for j in range(last - 11, last + 1)
        ]
        rows = frozenset(id(row) for cell in cells for row in cell.values())
        before = self.known.get(e.alert_id)
        if before is None or before[0] != rows:
            before = (rows, evaluate(stored, e, scene().catalogue, self.physics))
            self.known[e.alert_id] = before
        return before[1]

    def _check(
        self,
        e: Encounter,
        entry: list[dict[str, Any]] | None,
        now: Evaluation | None,
        mark: int | None,
        boundary: int,
    ) -> None:
        alert = self.alerts.setdefault(e.alert_id, Alert())
        closes = tau(pane(e.tca_ns))
        level = now.level if now else None
        if closes <= self.closed:
            assert entry is None, "nothing follows a closed encounter"
            return
        closing = closes <= boundary
        if closing:
            due = level is not None or alert.sequence > 0
        elif RANK[level] > RANK[alert.held]:
            due = True
        else:
            due = RANK[level] < RANK[alert.held] and self._may_lower(alert, now, mark)
        assert (entry is not None) == due, (e.alert_id, alert, level, entry)
        if entry is not None:
            self._check_entry(alert, entry, now, final=closing)

    def _may_lower(self, alert: Alert, now: Evaluation | None, mark: int | None) -> bool:
        """Event time is past the pane; once a pane; 3 x Pc below the threshold (not for WATCH)."""
        assert now is not None, "rows do not go away"
        if mark is None or mark < tau(now.pane) or alert.lowered == now.pane:
            return False
        thresholds = {"RED": self.physics.red_pc, "YELLOW": self.physics.yellow_pc}
        threshold = thresholds.get(alert.held or "")
        far = now.miss_m > 1000.0 * self.physics.screening_km
        return threshold is None or far or 3.0 * now.pc < threshold

    def _check_entry(
        self, alert: Alert, entry: list[dict[str, Any]], now: Evaluation | None, *, final: bool
    ) -> None:
        level = now.level if now else None
        retracted = alert.held is not None and alert.held != level
        expected = ["retract"] if retracted or level is None else []
        expected += ["insert"] if level is not None else []
        assert [record["action"] for record in entry] == expected
        for record in entry:
            assert record["final"] == final
            assert record["sequence"] > alert.sequence, "sequences rise"
            assert record["sequence"] >> 32 == self._epoch
            if record["action"] == "retract":
                assert record["supersedes"] == alert.sequence
            else:
                assert now is not None
                assert disagreements(record, now) == []
                assert record["ingest_ns"] >= 0
            alert.sequence = record["sequence"]
        if len(entry) == 2:
            assert entry[1]["sequence"] == entry[0]["sequence"] + 1
        assert not alert.final, "final once"
        self.seen[self._kind(alert, level, final=final)] += 1
        if not final and RANK[level] < RANK[alert.held]:
            assert now is not None
            alert.lowered = now.pane
        alert.held, alert.final = level, final

    @staticmethod
    def _kind(alert: Alert, level: str | None, *, final: bool) -> str:
        if RANK[level] > RANK[alert.held]:
            change = "raised"
        else:
            change = "same" if level == alert.held else "lowered"
        return f"final {change}" if final else change
