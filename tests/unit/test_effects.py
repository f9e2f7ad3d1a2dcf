"""The table of SPEC 5: every stored state x every event. Not the stores that keep it."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from operators.core.effects import (
    TABLE,
    Event,
    Outcome,
    Verdict,
    apply,
    change_of,
    close,
    judge,
    unconfirmed,
    withdrawal_sequence,
)
from sda_pipeline.errors import StateCorrupt
from sda_pipeline.limits import SEEN_SET_KEPT_NS
from sda_pipeline.records.alert import AlertRecord
from sda_pipeline.state.alert_state import UNSEEN, Change, State, Stored
from sda_pipeline.vocabulary import Effect
from tests.unit.alert_rig import T0, at, insert, retract

# SPEC 5, line by line; None: stored, no action.
EXPECTED = {
    (State.NONE, "insert"): Effect.RAISE,
    (State.ACTIVE, "insert other"): Effect.CHANGE,
    (State.ACTIVE, "insert same"): Effect.CONFIRM,
    (State.ACTIVE, "retract"): Effect.WITHDRAW,
    (State.WITHDRAWN, "insert"): Effect.REINSTATE,
    (State.NONE, "retract"): None,
    (State.WITHDRAWN, "retract"): None,
}


def _stored(state: State, sequence: int = at(5), *, final: bool = False) -> Stored:
    level = "RED" if state is State.ACTIVE else None
    return Stored(state, sequence, level, final, T0)


def _change(level: str | None, sequence: int = at(6), *, final: bool = False) -> Change:
    return Change("a", sequence, level, final, T0)


def test_the_table_names_every_state_and_event() -> None:
    assert set(TABLE) == set(itertools.product(State, Event))


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", ["insert same", "insert other", "retract"])
@pytest.mark.parametrize("final", [False, True])
def test_every_state_and_record_has_the_effect_of_the_specification(
    state: State, event: str, final: bool
) -> None:
    level = {"insert same": "RED", "insert other": "YELLOW", "retract": None}[event]
    outcome = apply(_stored(state), _change(level, final=final), T0)
    expected = EXPECTED.get((state, event), EXPECTED.get((state, event.split(maxsplit=1)[0])))
    assert (outcome.verdict, outcome.effect) == (Verdict.ACCEPTED, expected)
    assert outcome.stored.sequence == at(6)
    assert outcome.stored.final is final
    assert outcome.stored.level == level
    assert (outcome.stored.state is State.ACTIVE) == (level is not None)


def test_a_retract_before_any_insert_leaves_the_first_insert_a_raise() -> None:
    outcome = apply(UNSEEN, _change(None), T0)
    assert (outcome.effect, outcome.stored.state) == (None, State.NONE)
    assert apply(outcome.stored, _change("RED", at(7)), T0).effect is Effect.RAISE


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("sequence", [at(5), at(4), at(1), at(9, epoch=0)])
def test_what_is_not_above_the_stored_sequence_is_a_duplicate(state: State, sequence: int) -> None:
    stored = _stored(state, final=True)  # also after a final: a repeat is no fault
    assert apply(stored, _change("YELLOW", sequence), T0) == Outcome(
        Verdict.DUPLICATE, None, stored
    )


def test_a_record_after_the_final_of_its_epoch_is_a_fault_and_of_a_newer_one_is_not() -> None:
    for state in State:
        with pytest.raises(StateCorrupt, match="after its final"):
            judge(_stored(state, final=True), _change("RED"), T0)
    newer = apply(_stored(State.ACTIVE, final=True), _change("RED", at(1, epoch=2)), T0)
    assert (newer.effect, newer.stored.final) == (Effect.CONFIRM, False)


def test_what_closed_over_thirty_days_before_the_newest_is_refused() -> None:
    newest = T0 + SEEN_SET_KEPT_NS
    assert judge(UNSEEN, _change("RED"), newest) is Verdict.ACCEPTED
    assert judge(UNSEEN, _change("RED"), newest + 1) is Verdict.REFUSED
    assert apply(UNSEEN, _change("RED"), newest + 1) == Outcome(Verdict.REFUSED, None, UNSEEN)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("closed", [False, True])
def test_closed_through_withdraws_only_what_an_older_epoch_left_provisional(
    state: State, final: bool, older: bool, closed: bool
) -> None:
    stored = _stored(state, final=final)
    position = at(9, epoch=2 if older else 1)
    closed_ns = T0 if closed else T0 - 1
    hit = state is State.ACTIVE and not final and older and closed
    assert unconfirmed(stored, position, closed_ns) is hit
    outcome = close(stored, position, closed_ns)
    if hit:
        withdrawn = Stored(State.WITHDRAWN, withdrawal_sequence(position), None, True, T0)
        assert outcome == Outcome(Verdict.ACCEPTED, Effect.WITHDRAW, withdrawn)
    else:
        assert outcome == Outcome(Verdict.ACCEPTED, None, stored)
        assert TABLE[state, Event.UNCONFIRMED][1] is None or state is State.ACTIVE


def test_a_withdrawal_stands_between_the_epochs() -> None:
    sequence = withdrawal_sequence(at(77, epoch=2))
    assert at(2**32 - 1, epoch=1) < sequence < at(1, epoch=2)


def _records(*records: dict[str, object]) -> list[AlertRecord]:
    return msgspec.convert(list(records), list[AlertRecord])


def test_an_entry_is_one_record_or_a_pair() -> None:
    pair = _records(retract("a1", at(4)), insert("a1", at(5), "YELLOW"))
    assert change_of(pair, T0) == Change("a1", at(5), "YELLOW", False, T0, T0 + at(5))
    assert change_of(pair[:1], T0) == Change("a1", at(4), None, False, T0)


@pytest.mark.parametrize(
    "records",
    [
        [],
        [{**insert("a1", at(1)), "action": "delete"}],
        [{**insert("a1", at(1)), "level": None}],
        [insert("a1", at(1)), retract("a1", at(2))],
        [insert("a1", at(1)), insert("a1", at(2))],
        [retract("a1", at(1)), insert("a1", at(3))],
        [retract("a1", at(1)), insert("a2", at(2))],
        [retract("a1", at(1)), insert("a1", at(2)), insert("a1", at(3))],
    ],
)
def test_anything_else_is_refused(records: list[dict[str, object]]) -> None:
    with pytest.raises(StateCorrupt, match="cannot apply an outbox entry"):
        change_of(_records(*records), T0)
