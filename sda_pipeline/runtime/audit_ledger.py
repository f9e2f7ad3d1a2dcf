"""Audit of the subscriber's store: every entry of the sink that it has taken had exactly the effect
of SPEC 5, and its seen-set is what they leave.

What lies before the sink's memory (its store was lost, or has pruned) must at least be a legal life
of each alert.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

from sda_pipeline.limits import SEEN_SET_KEPT_NS
from sda_pipeline.records.alert import EPOCH_SHIFT
from sda_pipeline.runtime.audit_report import Fault
from sda_pipeline.state.alert_state import Action, Change, State, epoch_of
from sda_pipeline.state.subscriber_store import SubscriberView
from sda_pipeline.vocabulary import Effect

# effect -> the states it may follow, the state after it
LEGAL = {
    Effect.RAISE: ({State.NONE}, State.ACTIVE),
    Effect.CHANGE: ({State.ACTIVE}, State.ACTIVE),
    Effect.CONFIRM: ({State.ACTIVE}, State.ACTIVE),
    Effect.WITHDRAW: ({State.ACTIVE}, State.WITHDRAWN),
    Effect.REINSTATE: ({State.WITHDRAWN}, State.ACTIVE),
}


class Life(NamedTuple):
    """Where an alert stands at the subscriber. ``closes_ns`` is None when only the ledger says."""

    state: State = State.NONE
    sequence: int = 0
    level: str | None = None
    final: bool = False
    closes_ns: int | None = None
    crc: int = 0  # of its current record


class _Line(NamedTuple):
    """One effect without the subscriber's clock and the order within its entry."""

    alert_id: str
    sequence: int
    effect: Effect
    level: str | None
    final: bool
    ingest_ns: int | None


@dataclass
class LedgerAudit:
    """The ledger beside the sink's entries, both by position. ``view`` is None without a store."""

    view: SubscriberView | None
    fault: Fault
    lives: dict[str, Life] = field(default_factory=dict)
    _open: dict[str, Life] = field(default_factory=dict)  # provisional and active
    _actions: dict[int, list[Action]] = field(default_factory=dict)  # not yet accounted for
    _position: int = 0
    _start: int = 0
    _newest_closes: int = 0

    def begin(self, start: int, *, pruned: bool) -> None:
        """The sink remembers entries from ``start`` on; with ``pruned`` it knew older ones."""
        if self.view is None:
            return
        self._position = self.view.position
        for difference in self.view.differences():
            self.fault(f"subscriber.sqlite: {difference}")
        before = 0
        for number, (row, action) in enumerate(self.view.ledger(), 1):
            where = f"subscriber.sqlite: ledger row {row}"
            if row != number:
                self.fault(f"{where}: the row before it is {number - 1}")
            if not before <= action.position <= self._position:
                says = f"after {before:#x}, the store stands at {self._position:#x}"
                self.fault(f"{where}: it is of entry {action.position:#x}, {says}")
            before = action.position
            self._actions.setdefault(action.position, []).append(action)
        # A subscriber that lost its store begins anew at what the sink still has.
        self._start = max(start, min(self._actions, default=self._position)) if pruned else start
        for position in [position for position in self._actions if position < self._start]:
            for action in self._actions.pop(position):
                self._remember(action)

    def _remember(self, action: Action) -> None:
        """An effect from before the sink's memory: only its life can be checked."""
        where = f"subscriber.sqlite: {action.effect} of alert {action.alert_id}"
        life = self.lives.get(action.alert_id, Life())
        allowed, state = LEGAL[action.effect]
        if life.state not in allowed or action.sequence <= life.sequence:
            self.fault(f"{where} at entry {action.position:#x} while {life.state}")
        self._set(action.alert_id, Life(state, action.sequence, action.level, action.final, None))

    def _set(self, alert_id: str, life: Life) -> None:
        self.lives[alert_id] = life
        if life.state is State.ACTIVE and not life.final:
            self._open[alert_id] = life
        else:
            self._open.pop(alert_id, None)

    def take(self, position: int, change: Change, body: bytes) -> None:
        """The sink holds an entry with this change; ``body`` is its last record."""
        if not self._start <= position <= self._position:
            return
        life = self.lives.get(change.alert_id, Life())
        expected: list[_Line] = []
        old = self._newest_closes - change.closes_ns > SEEN_SET_KEPT_NS
        if change.sequence > life.sequence and not old:
            effect = _effect(life, change.level)
            state = life.state if effect is None else LEGAL[effect][1]
            level, crc = change.level, zlib.crc32(body)
            new = Life(state, change.sequence, level, change.final, change.closes_ns, crc)
            self._set(change.alert_id, new)
            self._newest_closes = max(self._newest_closes, change.closes_ns)
            if effect is not None:
                line = _Line(
                    change.alert_id, change.sequence, effect, level, change.final, change.ingest_ns
                )
                expected.append(line)
        self._compare(position, expected)

    def close(self, position: int, closed_ns: int) -> None:
        """The sink holds ``closed_through``: what only an older epoch raised is withdrawn."""
        if not self._start <= position <= self._position:
            return
        sequence = epoch_of(position) << EPOCH_SHIFT
        expected = []
        for alert_id, life in [*self._open.items()]:
            closes = life.closes_ns
            if closes is None:  # raised before the sink's memory: take the ledger's word
                told = self._actions.get(position, ())
                closes = 0 if any(action.alert_id == alert_id for action in told) else closed_ns + 1
            if epoch_of(life.sequence) < epoch_of(position) and closes <= closed_ns:
                gone = life._replace(
                    state=State.WITHDRAWN, sequence=sequence, level=None, final=True
                )
                self._set(alert_id, gone)
                line = _Line(
                    alert_id, sequence, Effect.WITHDRAW, level=None, final=True, ingest_ns=None
                )
                expected.append(line)
        self._compare(position, expected)

    def _compare(self, position: int, expected: list[_Line]) -> None:
        actions = self._actions.pop(position, [])
        found = [
            _Line(a.alert_id, a.sequence, a.effect, a.level, a.final, a.ingest_ns) for a in actions
        ]
        for line in sorted({*found} ^ {*expected}, key=lambda line: (line.alert_id, line.effect)):
            what = f"{line.effect} of alert {line.alert_id}, sequence {line.sequence:#x}"
            told = "stands in the ledger" if line in found else "is not in the ledger"
            self.fault(f"subscriber.sqlite: {what} {told} as entry {position:#x} makes it")

    def finish(self, sink_position: int, first: int, *, pruned: bool) -> None:
        """After the last entry: what the ledger has left over, and the seen-set."""
        if self.view is None:
            return
        if self._position > sink_position:
            says = f"the sink at {sink_position:#x}"
            self.fault(f"subscriber.sqlite: it stands at {self._position:#x}, {says}")
        if pruned and self._position + 1 < first:
            says = f"the sink's entries begin at {first:#x}"
            self.fault(f"subscriber.sqlite: it stands at {self._position:#x}, {says}")
        for position, actions in self._actions.items():
            for action in actions:
                what = f"{action.effect} of alert {action.alert_id}"
                at = f"entry {position:#x}, which the sink does not have"
                self.fault(f"subscriber.sqlite: {what} in the ledger is of {at}")
        self._check_seen(self.view)

    def _check_seen(self, view: SubscriberView) -> None:
        newest, missing = 0, dict(self.lives)
        for alert_id, stored, body in view.seen():
            newest = max(newest, stored.closes_ns)
            life = missing.pop(alert_id, Life())
            if life.closes_ns is None:  # only the ledger says, or not even that
                own = Life(stored.state, max(stored.sequence, life.sequence), stored.level)
                expected = Life(life.state, stored.sequence, life.level)
            else:
                own, expected = Life(*stored, crc=zlib.crc32(body)), life
            if own != expected:
                must = f"{expected.state} by sequence {expected.sequence:#x}"
                says = f"{stored.state} by sequence {stored.sequence:#x}, or has another record"
                self.fault(f"subscriber.sqlite: alert {alert_id} must be {must}; it is {says}")
        for alert_id, life in missing.items():
            closes = life.closes_ns or 0
            if view.newest_closes_ns - closes <= SEEN_SET_KEPT_NS:
                self.fault(f"subscriber.sqlite: alert {alert_id} is not in the seen-set")
        if newest != view.newest_closes_ns:
            says = f"the newest alert it has seen closes at {newest}"
            self.fault(f"subscriber.sqlite: {says}, it stands at {view.newest_closes_ns}")


def _effect(life: Life, level: str | None) -> Effect | None:
    """What a record with this level (None: a lone retract) does to an alert."""
    if level is None:
        return Effect.WITHDRAW if life.state is State.ACTIVE else None
    if life.state is not State.ACTIVE:
        return Effect.RAISE if life.state is State.NONE else Effect.REINSTATE
    return Effect.CONFIRM if level == life.level else Effect.CHANGE
