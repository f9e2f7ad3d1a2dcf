"""What an alert record does to its reader: stored state x record -> effect (SPEC 5). Pure.

Sink and subscriber both judge here; only the subscriber has effects. The life cycle is ``TABLE``.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from sda_pipeline.errors import StateCorrupt
from sda_pipeline.limits import SEEN_SET_KEPT_NS
from sda_pipeline.records.alert import EPOCH_SHIFT, INSERT, RETRACT, AlertRecord
from sda_pipeline.state.alert_state import UNSEEN, Change, State, Stored, epoch_of
from sda_pipeline.vocabulary import Effect

NOT_CONFIRMED = "not_confirmed"  # reason of a withdrawal that closed_through causes
_HINT = "report it: the correlator broke its contract"


class Event(Enum):
    """What arrives, seen from the stored state. A pair counts as its insert."""

    INSERT_SAME_LEVEL = "insert of the stored level"
    INSERT_OTHER_LEVEL = "insert of another level"
    RETRACT = "retract without insert"
    UNCONFIRMED = "closed_through past a provisional alert of an older epoch"


class Verdict(Enum):
    """What becomes of a record before the table is asked."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"  # its sequence is not above the stored one
    REFUSED = "refused"  # so old that the seen-set may have forgotten its alert


class Outcome(NamedTuple):
    """The decision on one record: what to store and, when ``effect`` is not None, what to do."""

    verdict: Verdict
    effect: Effect | None
    stored: Stored


# A retract of an alert never raised here is stored, but leaves the state at NONE: its first insert
# is then still a raise, so that no ledger starts with a reinstate.
TABLE: dict[tuple[State, Event], tuple[State, Effect | None]] = {
    (State.NONE, Event.INSERT_SAME_LEVEL): (State.ACTIVE, Effect.RAISE),
    (State.NONE, Event.INSERT_OTHER_LEVEL): (State.ACTIVE, Effect.RAISE),
    (State.NONE, Event.RETRACT): (State.NONE, None),
    (State.NONE, Event.UNCONFIRMED): (State.NONE, None),
    (State.ACTIVE, Event.INSERT_SAME_LEVEL): (State.ACTIVE, Effect.CONFIRM),
    (State.ACTIVE, Event.INSERT_OTHER_LEVEL): (State.ACTIVE, Effect.CHANGE),
    (State.ACTIVE, Event.RETRACT): (State.WITHDRAWN, Effect.WITHDRAW),
    (State.ACTIVE, Event.UNCONFIRMED): (State.WITHDRAWN, Effect.WITHDRAW),
    (State.WITHDRAWN, Event.INSERT_SAME_LEVEL): (State.ACTIVE, Effect.REINSTATE),
    (State.WITHDRAWN, Event.INSERT_OTHER_LEVEL): (State.ACTIVE, Effect.REINSTATE),
    (State.WITHDRAWN, Event.RETRACT): (State.WITHDRAWN, None),
    (State.WITHDRAWN, Event.UNCONFIRMED): (State.WITHDRAWN, None),
}


def change_of(records: Sequence[AlertRecord], closes_ns: int) -> Change:
    """The change one entry makes: one record, or a retract + insert pair with sequences n, n + 1.

    StateCorrupt when the records are neither.
    """
    last = records[-1] if records else None
    if last is None or last.action not in {INSERT, RETRACT}:
        raise StateCorrupt("apply an outbox entry", "it holds no insert or retract", _HINT)
    if len(records) > 1:
        first = records[0]
        pair = (first.action, last.action, last.alert_id, last.sequence)
        if len(records) > 2 or pair != (RETRACT, INSERT, first.alert_id, first.sequence + 1):
            why = f"alert {last.alert_id}: {len(records)} records that are no retract + insert pair"
            raise StateCorrupt("apply an outbox entry", why, _HINT)
    inserted = last.action == INSERT
    if inserted and last.level is None:
        why = f"alert {last.alert_id}: an insert without a level"
        raise StateCorrupt("apply an outbox entry", why, _HINT)
    level = last.level if inserted else None
    return Change(last.alert_id, last.sequence, level, last.final, closes_ns, last.ingest_ns)


def judge(stored: Stored, change: Change, newest_closes_ns: int) -> Verdict:
    """Whether a change is news. StateCorrupt on a record after ``final`` in the same epoch.

    ``newest_closes_ns`` is the newest ``closes`` ever stored. The seen-set forgets an alert when it
    is 30 days older than that, so an older record is refused: it might be a second raise.
    """
    if change.sequence <= stored.sequence:
        return Verdict.DUPLICATE
    if newest_closes_ns - change.closes_ns > SEEN_SET_KEPT_NS:
        return Verdict.REFUSED
    if stored.final and epoch_of(change.sequence) == epoch_of(stored.sequence):
        why = f"alert {change.alert_id}: sequence {change.sequence} comes after its final"
        raise StateCorrupt("apply an outbox entry", why, _HINT)
    return Verdict.ACCEPTED


def apply(stored: Stored, change: Change, newest_closes_ns: int) -> Outcome:
    """Judge a change and look its effect up."""
    verdict = judge(stored, change, newest_closes_ns)
    if verdict is not Verdict.ACCEPTED:
        return Outcome(verdict, None, stored)
    state, effect = TABLE[stored.state, _event(stored, change)]
    level = change.level if state is State.ACTIVE else None
    new = Stored(state, change.sequence, level, change.final, change.closes_ns)
    return Outcome(verdict, effect, new)


def _event(stored: Stored, change: Change) -> Event:
    if change.level is None:
        return Event.RETRACT
    same = change.level == stored.level
    return Event.INSERT_SAME_LEVEL if same else Event.INSERT_OTHER_LEVEL


def unconfirmed(stored: Stored, position: int, closed_ns: int) -> bool:
    """Whether ``closed_through(closed_ns)`` at an outbox position withdraws this alert.

    It does when the alert is active and provisional, its newest record is of an older epoch, and it
    has closed: the correlator of the new epoch has emitted every final up to there and did not name
    it.
    """
    older = epoch_of(stored.sequence) < epoch_of(position)
    closed = stored.closes_ns <= closed_ns
    return stored.state is State.ACTIVE and not stored.final and older and closed


def close(stored: Stored, position: int, closed_ns: int) -> Outcome:
    """What ``closed_through(closed_ns)`` at an outbox position does to an alert; mostly nothing."""
    if not unconfirmed(stored, position, closed_ns):
        return Outcome(Verdict.ACCEPTED, None, stored)
    state, effect = TABLE[stored.state, Event.UNCONFIRMED]
    sequence = withdrawal_sequence(position)
    new = Stored(state, sequence, None, final=True, closes_ns=stored.closes_ns)
    return Outcome(Verdict.ACCEPTED, effect, new)


def withdrawal_sequence(position: int) -> int:
    """The sequence of a withdrawal nobody sent: n = 0 of its epoch.

    Above every older epoch's, below every record of its own epoch (they start at n = 1), and one
    alert is withdrawn so at most once an epoch.
    """
    return epoch_of(position) << EPOCH_SHIFT


assert UNSEEN.sequence < 1 << EPOCH_SHIFT, "any record is news to a reader that knows nothing"
