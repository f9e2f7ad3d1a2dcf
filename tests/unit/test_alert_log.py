"""The alert sink's store: records, outbox, pruning. What it shares with the other:
test_sqlite_file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from sda_pipeline.errors import StateCorrupt
from sda_pipeline.limits import SEEN_SET_KEPT_NS
from sda_pipeline.records.alert import Entry, entry_of_closed, entry_of_records
from sda_pipeline.state import alert_log
from sda_pipeline.state.alert_log import AlertLog, raw_bodies, read_alerts
from sda_pipeline.state.alert_state import UNSEEN, State, Stored
from tests.unit.alert_rig import T0, at, change_in, closes_of, insert, retract


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alerts.sqlite"


@pytest.fixture
def log(path: Path) -> Iterator[AlertLog]:
    with AlertLog(path) as log:
        yield log


def _add(log: AlertLog, *entries: Entry) -> None:
    with log.transaction():
        for entry in entries:
            log.add_entry(entry)
            if entry.count:
                log.add_records(change_in(entry), entry.position, raw_bodies(entry.body))


FIRST = entry_of_records(at(1), [insert("a1", at(1))])
PAIR = entry_of_records(at(2), [retract("a1", at(2)), insert("a1", at(3), "YELLOW")])
OTHER = entry_of_records(at(3), [insert("a2", at(1))])
FINAL = entry_of_records(at(4), [insert("a1", at(4), "YELLOW", final=True)])
GONE = entry_of_records(at(5), [retract("a2", at(2), final=True)])
CLOSED = entry_of_closed(at(6), T0)


def test_the_newest_record_of_an_alert_is_what_is_stored(log: AlertLog) -> None:
    assert log.stored("a1") == UNSEEN
    _add(log, FIRST)
    assert log.stored("a1") == Stored(State.ACTIVE, at(1), "RED", False, closes_of("a1"))
    _add(log, PAIR, OTHER, GONE)
    assert log.stored("a1") == Stored(State.ACTIVE, at(3), "YELLOW", False, closes_of("a1"))
    assert log.stored("a2") == Stored(State.WITHDRAWN, at(2), None, True, closes_of("a2"))
    assert (log.position, log.newest_closes_ns) == (at(5), closes_of("a2"))


def test_entries_come_back_byte_for_byte_in_order(log: AlertLog) -> None:
    entries = [FIRST, PAIR, OTHER, FINAL, GONE, CLOSED]
    _add(log, *entries)
    assert log.entries_above(0, 10) == entries
    assert log.entries_above(at(4), 1) == [GONE]
    assert log.entries_above(at(6), 10) == []
    assert log.entries_above(2**64 - 1, 10) == []  # a board word nobody has written sensibly


def test_readers_see_the_last_record_of_each_alert(log: AlertLog, path: Path) -> None:
    _add(log, FIRST, PAIR, OTHER)
    yellow, red = orjson.loads(PAIR.body)[1], orjson.loads(OTHER.body)[0]
    assert list(read_alerts(path)) == [yellow, red]
    assert list(read_alerts(path, after=at(2))) == [red]
    assert list(read_alerts(path, final_only=True)) == []
    _add(log, FINAL, GONE)
    assert list(read_alerts(path, final_only=True)) == [orjson.loads(FINAL.body)[0]]
    assert [record["action"] for record in read_alerts(path)] == ["insert", "retract"]


def test_open_alerts_are_found_by_the_time_they_close(log: AlertLog) -> None:
    _add(log, FIRST, PAIR, OTHER)
    assert [name for name, _, _ in log.open_before(closes_of("a9"))] == ["a1", "a2"]
    ((name, stored, body),) = log.open_before(closes_of("a1"))
    assert (name, stored.sequence) == ("a1", at(3))
    assert orjson.loads(body)["level"] == "YELLOW"
    _add(log, FINAL, GONE)
    assert log.open_before(closes_of("a9")) == []


def test_a_withdrawal_becomes_a_record(log: AlertLog, path: Path) -> None:
    _add(log, FIRST)
    ((name, stored, body),) = log.open_before(closes_of("a1"))
    new = stored._replace(state=State.WITHDRAWN, sequence=at(0, epoch=2), level=None, final=True)
    closed = entry_of_closed(at(1, epoch=2), closes_of("a1"))
    with log.transaction():
        log.add_entry(closed)
        log.add_withdrawal(name, new, closed.position, body, reason="not_confirmed")
    (record,) = read_alerts(path)
    expected = retract("a1", at(0, epoch=2), final=True)
    assert record == {**expected, "supersedes": at(1), "reason": "not_confirmed"}
    assert log.stored("a1") == new


def test_recent_keys_are_the_newest_oldest_first(log: AlertLog) -> None:
    _add(log, FIRST, PAIR, OTHER)
    assert log.recent_keys(2) == [("a1", at(3)), ("a2", at(1))]
    assert log.recent_keys(9) == [("a1", at(1)), ("a1", at(2)), ("a1", at(3)), ("a2", at(1))]


def test_the_same_record_twice_is_refused_by_the_table(log: AlertLog) -> None:
    _add(log, FIRST)
    with pytest.raises(StateCorrupt, match="UNIQUE"):
        _add(log, entry_of_records(at(2), [insert("a1", at(1))]))
    assert log.position == at(1)


def test_records_are_marked_overdue_once(log: AlertLog) -> None:
    _add(log, FIRST, PAIR, OTHER)
    assert log.mark_overdue(at(1), at(2)) == 2
    assert log.mark_overdue(0, at(3)) == 2
    assert log.mark_overdue(0, at(3)) == 0


def test_a_damaged_entry_is_never_delivered(path: Path) -> None:
    with AlertLog(path) as log:
        _add(log, FIRST)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE entries SET body = replace(body, 'RED', 'RAD')")
    db.close()
    with AlertLog(path) as log, pytest.raises(StateCorrupt, match="does not match its CRC"):
        log.entries_above(0, 1)


def test_pruning_keeps_what_is_not_confirmed_and_some_that_is(
    log: AlertLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_log, "ENTRIES_KEPT", 3)
    monkeypatch.setattr(alert_log, "PRUNE_EVERY", 5)
    for n in range(1, 21):
        with log.transaction():
            log.add_entry(entry_of_records(at(n), [insert(f"a{n}", at(1))]))
            log.prune(confirmed=at(max(n - 2, 0)))
    kept = [entry.position for entry in log.entries_above(0, 99)]
    assert kept[-1] == at(20)
    assert kept == list(range(kept[0], at(21)))
    assert 3 + 2 <= len(kept) <= 3 + 2 + 5


def test_records_go_thirty_days_after_the_newest_closed(
    log: AlertLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_log, "PRUNE_EVERY", 1)
    late = T0 + SEEN_SET_KEPT_NS
    closes = {"a1": T0 - 1, "a2": T0, "a3": late}
    for n, (name, when) in enumerate(closes.items(), 1):
        _add(log, entry_of_records(at(n), [insert(name, at(1), closes=when)]))
    with log.transaction():
        log.add_entry(entry_of_closed(at(4), T0))
        log.prune(at(4))
    assert [record["alert_id"] for record in read_alerts(path)] == ["a2", "a3"]
