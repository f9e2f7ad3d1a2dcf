"""A correlator's outbox for tests: records, histories, and the plain reference of what they do. No
test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from operators.core.effects import change_of
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.alert import (
    EPOCH_SHIFT,
    KIND_CLOSED,
    Entry,
    entry_of_closed,
    entry_of_records,
    parse_entry,
)
from sda_pipeline.records.times import format_time, parse_times
from sda_pipeline.state.alert_state import Change

T0 = 1_700_000_000 * SECOND_NS
PANE = 5 * SECOND_NS
LEVELS = ("RED", "YELLOW", "WATCH", None)


def closes_of(alert: str) -> int:
    """Alert ``a3`` closes three panes after T0."""
    return T0 + int(alert[1:]) * PANE


def insert(
    alert: str, sequence: int, level: str = "RED", *, final: bool = False, closes: int | None = None
) -> dict[str, Any]:
    """An insert with the fields every reader needs."""
    return {
        "alert_id": alert, "sequence": sequence, "action": "insert", "final": final, "level": level,
        "sat1": 1, "sat2": 2, "closes": format_time(closes_of(alert) if closes is None else closes),
        "pc": 1e-3, "ingest_ns": T0 + sequence,
    }  # fmt: skip


def retract(
    alert: str, sequence: int, *, final: bool = False, closes: int | None = None
) -> dict[str, Any]:
    """A retract of whatever came before."""
    return {
        "alert_id": alert, "sequence": sequence, "action": "retract", "final": final,
        "supersedes": sequence - 1, "reason": "below_threshold", "sat1": 1, "sat2": 2,
        "closes": format_time(closes_of(alert) if closes is None else closes),
    }  # fmt: skip


def at(n: int, epoch: int = 1) -> int:
    """Position or sequence n of an epoch."""
    return epoch << EPOCH_SHIFT | n


@dataclass
class _Alert:
    level: str | None = None
    n: int = 0
    final: bool = False


@dataclass
class Correlator:
    """Makes legal outboxes: every operation that would break the contract does nothing."""

    entries: list[Entry] = field(default_factory=list)
    epoch: int = 1
    n: int = 0
    closed: int = 0
    alerts: dict[str, _Alert] = field(default_factory=dict)

    def _emit(self, records: list[dict[str, Any]]) -> None:
        self.n += 1
        self.entries.append(entry_of_records(at(self.n, self.epoch), records))

    def _say(self, name: str, level: str | None, *, final: bool = False) -> None:
        state = self.alerts.setdefault(name, _Alert())
        records = []
        if (state.level is not None and state.level != level) or level is None:
            state.n += 1
            records.append(retract(name, at(state.n, self.epoch), final=final))
        if level is not None:
            state.n += 1
            records.append(insert(name, at(state.n, self.epoch), level, final=final))
        state.level, state.final = level, final
        self._emit(records)

    def level(self, name: str, level: str | None) -> None:
        """The alert reaches or loses a level."""
        state = self.alerts.get(name, _Alert())
        if not state.final and closes_of(name) > self.closed and state.level != level:
            self._say(name, level)

    def close(self, closed: int) -> None:
        """Finality crosses to ``closed``: finals, then ``closed_through``."""
        if closed <= self.closed:
            return
        for name, state in sorted(self.alerts.items()):
            if closes_of(name) <= closed and not state.final:
                self._say(name, state.level, final=True)
        self.closed = closed
        self.n += 1
        self.entries.append(entry_of_closed(at(self.n, self.epoch), closed))

    def new_epoch(self, forgotten: Iterable[str], closed: int) -> None:
        """Recover from an older state: forget some alerts, re-emit the others."""
        self.epoch, self.n, self.closed = self.epoch + 1, 0, min(closed, self.closed)
        for name in forgotten:
            self.alerts.pop(name, None)
        for name, state in sorted(self.alerts.items()):
            self._say(name, state.level, final=state.final)


def story() -> Correlator:
    """Every effect at least once, two epochs, finals, an alert nobody confirms."""
    correlator = Correlator()
    for name in ("a1", "a2", "a3", "a4"):
        correlator.level(name, "YELLOW")
    correlator.level("a1", "RED")
    correlator.level("a2", None)
    correlator.level("a2", "RED")
    correlator.close(closes_of("a1"))
    correlator.new_epoch(["a3"], 0)
    correlator.level("a4", None)
    correlator.close(closes_of("a9"))
    return correlator


def history(operations: Iterable[tuple[Any, ...]]) -> Correlator:
    """The outbox that ("level", name, level), ("close", panes), ("epoch", names, panes) make."""
    correlator = Correlator()
    for verb, *arguments in operations:
        if verb == "level":
            correlator.level(*arguments)
        elif verb == "close":
            correlator.close(T0 + arguments[0] * PANE)
        else:
            correlator.new_epoch(sorted(arguments[0]), T0 + arguments[1] * PANE)
    return correlator


class Line(NamedTuple):
    """One ledger line without its clock."""

    alert_id: str
    sequence: int
    effect: str
    level: str | None
    final: bool
    position: int


def reference_ledger(entries: Iterable[Entry]) -> list[Line]:
    """What clean delivery of the entries does, said as plainly as possible (SPEC 5)."""
    ledger: list[Line] = []
    raised: set[str] = set()
    newest: dict[str, dict[str, Any]] = {}
    for entry in entries:
        epoch = entry.position >> 32
        content = parse_entry(entry.kind, entry.body)
        if entry.kind == KIND_CLOSED:
            for name in sorted(newest, key=lambda name: (closes_of(name), name)):
                held = newest[name]
                if (
                    held["active"] and not held["final"]
                    and held["sequence"] >> 32 < epoch and closes_of(name) <= content
                ):  # fmt: skip
                    newest[name] = {"sequence": epoch << 32, "active": False, "final": True}
                    ledger.append(Line(name, epoch << 32, "withdraw", None, True, entry.position))
            continue
        last = content[-1]
        held = newest.get(last.alert_id, {"sequence": -1, "active": False, "level": None})
        if last.sequence <= held["sequence"]:
            continue
        effect = None
        if last.action == "retract":
            effect = "withdraw" if held["active"] else None
        elif last.alert_id not in raised:
            effect = "raise"
            raised.add(last.alert_id)
        elif not held["active"]:
            effect = "reinstate"
        else:
            effect = "confirm" if held["level"] == last.level else "change"
        newest[last.alert_id] = {
            "sequence": last.sequence, "active": last.action == "insert", "level": last.level,
            "final": last.final,
        }  # fmt: skip
        if effect:
            ledger.append(
                Line(last.alert_id, last.sequence, effect, last.level, last.final, entry.position)
            )
    return ledger


def time_of(text: str) -> int:
    """Nanoseconds of an RFC 3339 text that must be good."""
    times, good = parse_times([text])
    assert good.all(), text
    return int(times[0])


def change_in(entry: Entry) -> Change:
    """The change an entry of records makes."""
    records = parse_entry(entry.kind, entry.body)
    return change_of(records, time_of(records[-1].closes))
