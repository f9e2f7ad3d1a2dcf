"""The subscriber's store: seen-set and ledger. What it shares with the sink's: test_sqlite_file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from sda_pipeline.errors import StateCorrupt
from sda_pipeline.limits import SEEN_SET_KEPT_NS
from sda_pipeline.records.times import format_time
from sda_pipeline.state.alert_state import UNSEEN, Action, State, Stored
from sda_pipeline.state.subscriber_store import SubscriberStore, read_actions, read_effects
from sda_pipeline.vocabulary import Effect
from tests.unit.alert_rig import T0, at

RAISED = Action("a1", at(1), Effect.RAISE, "RED", False, at(1), T0 + 5, T0)
WITHDRAWN = Action("a1", at(2), Effect.WITHDRAW, None, True, at(2), T0 + 9, None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "subscriber.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SubscriberStore]:
    with SubscriberStore(path) as store:
        yield store


def _act(store: SubscriberStore, *actions: Action) -> None:
    with store.transaction():
        for action in actions:
            store.act(action)
            store.position = max(store.position, action.position)


def test_the_ledger_reads_back_in_order(store: SubscriberStore, path: Path) -> None:
    _act(store, RAISED, WITHDRAWN)
    assert list(read_actions(path)) == [RAISED, WITHDRAWN]
    assert list(read_actions(path, after=1)) == [WITHDRAWN]
    assert list(read_effects(path))[1] == {
        "alert_id": "a1", "sequence": at(2), "effect": "withdraw", "level": None, "final": True,
        "position": at(2), "at": format_time(T0 + 9),
    }  # fmt: skip


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(RAISED._replace(sequence=at(9)), id="a second raise"),
        pytest.param(WITHDRAWN._replace(sequence=at(1)), id="a second effect of a sequence"),
    ],
)
def test_the_ledger_refuses_a_repeat_and_keeps_the_rest_out(
    store: SubscriberStore, path: Path, again: Action
) -> None:
    _act(store, RAISED)
    other = RAISED._replace(alert_id="a2")
    with pytest.raises(StateCorrupt, match="UNIQUE constraint failed: ledger"):
        _act(store, other, again)
    assert list(read_actions(path)) == [RAISED]


def test_an_alert_is_remembered_with_its_newest_state(store: SubscriberStore) -> None:
    first = Stored(State.ACTIVE, at(1), "RED", False, T0)
    second = Stored(State.WITHDRAWN, at(2), None, True, T0)
    assert store.stored("a1") == UNSEEN
    for new in (first, second):
        with store.transaction():
            store.put("a1", new, b"{}")
        assert store.stored("a1") == new
    assert store.newest_closes_ns == T0


def test_open_alerts_are_active_provisional_and_closed(store: SubscriberStore) -> None:
    with store.transaction():
        store.put("final", Stored(State.ACTIVE, at(1), "RED", True, T0), b"1")
        store.put("withdrawn", Stored(State.WITHDRAWN, at(1), None, False, T0), b"2")
        store.put("later", Stored(State.ACTIVE, at(1), "RED", False, T0 + 1), b"3")
        store.put("b", Stored(State.ACTIVE, at(1), "RED", False, T0), b"4")
        store.put("a", Stored(State.ACTIVE, at(2), "WATCH", False, T0), b"5")
    found = [(name, body) for name, _, body in store.open_before(T0)]
    assert found == [("a", b"5"), ("b", b"4")]


def test_alerts_are_forgotten_thirty_days_after_the_newest(store: SubscriberStore) -> None:
    def put(name: str, closes_ns: int) -> None:
        with store.transaction():
            store.put(name, Stored(State.ACTIVE, at(1), "RED", False, closes_ns), b"{}")

    put("a1", T0)
    put("a2", T0 + SEEN_SET_KEPT_NS)
    assert store.stored("a1") != UNSEEN
    put("a3", T0 + SEEN_SET_KEPT_NS + 1)
    assert store.stored("a1") == UNSEEN
    assert store.stored("a2") != UNSEEN


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE seen SET state = 'withdrawn'",
        "UPDATE seen SET sequence = 1",
        "UPDATE seen SET body = x'00'",
    ],
)
def test_a_damaged_memory_is_never_used(path: Path, damage: str) -> None:
    with SubscriberStore(path) as store, store.transaction():
        store.put("a1", Stored(State.ACTIVE, at(1), "RED", False, T0), b"{}")
    with sqlite3.connect(path) as db:
        db.execute(damage)
    db.close()
    with SubscriberStore(path) as store, pytest.raises(StateCorrupt, match="does not match"):
        store.stored("a1")


def test_a_damaged_ledger_row_is_not_shown(path: Path) -> None:
    with SubscriberStore(path) as store:
        _act(store, RAISED)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE ledger SET level = 'YELLOW'")
    db.close()
    with pytest.raises(StateCorrupt, match="effect on alert a1"):
        list(read_effects(path))
