"""What holds for both SQLite stores: opening after a kill, refusing damage, reading beside a
writer.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sda_pipeline.errors import InvalidConfiguration, StateCorrupt, Unreachable
from sda_pipeline.state import sqlite_file
from sda_pipeline.state.alert_log import AlertLog, raw_bodies, read_alerts
from sda_pipeline.state.alert_state import Action, State, Stored
from sda_pipeline.state.row_crc import row_crc
from sda_pipeline.state.subscriber_store import SubscriberStore, read_effects
from sda_pipeline.vocabulary import Effect
from tests.unit.alert_rig import T0, Correlator, at, change_in

Reader = Callable[[Path], Iterator[dict[str, Any]]]


def _alert_log(path: Path) -> AlertLog:
    correlator = Correlator()
    for number in range(1, 40):
        correlator.level(f"a{number}", "RED")
    log = AlertLog(path)
    with log.transaction():
        for entry in correlator.entries:
            log.add_entry(entry)
            log.add_records(change_in(entry), entry.position, raw_bodies(entry.body))
    return log


def _subscriber(path: Path) -> SubscriberStore:
    store = SubscriberStore(path)
    with store.transaction():
        for number in range(1, 40):
            name = f"a{number}"
            store.put(name, Stored(State.ACTIVE, at(1), "RED", False, T0), b"{}" * 400)
            store.act(Action(name, at(1), Effect.RAISE, "RED", False, at(number), T0, T0))
            store.position = at(number)
    return store


@pytest.fixture(
    params=[(AlertLog, _alert_log, read_alerts), (SubscriberStore, _subscriber, read_effects)]
)
def kind(request: pytest.FixtureRequest) -> tuple[Any, Any, Reader]:
    return request.param


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "store.sqlite"


def test_a_new_store_is_empty_and_knows_that_it_is_new(kind: Any, path: Path) -> None:
    store_type, _, read = kind
    assert list(read(path)) == []  # no file, no rows
    with store_type(path) as store:
        assert (store.created, store.position, store.newest_closes_ns) == (True, 0, 0)
        assert list(read(path)) == []
    with store_type(path) as store:
        assert not store.created
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_reader_works_beside_the_writer_and_after_it(kind: Any, path: Path) -> None:
    _, fill, read = kind
    store = fill(path)
    assert len(list(read(path))) == 39
    with store.transaction():
        assert len(list(read(path))) == 39  # also inside its transaction
    store.close()
    assert len(list(read(path))) == 39


def test_commits_that_are_in_the_wal_only_survive_a_kill(kind: Any, path: Path) -> None:
    store_type, fill, read = kind
    store = fill(path)
    copy = path.parent.parent / "copy"
    shutil.copytree(path.parent, copy)  # what a kill leaves
    store.close()
    killed = copy / path.name
    assert killed.with_name(f"{path.name}-wal").stat().st_size > 0
    killed.with_name(f"{path.name}-shm").unlink()
    with store_type(killed) as store:
        assert store.position == at(39)
        assert killed.with_name(f"{path.name}-wal").stat().st_size == 0  # in the file, synced
    assert len(list(read(killed))) == 39


def test_a_torn_wal_loses_whole_commits_only(kind: Any, path: Path) -> None:
    store_type, fill, _ = kind
    store = fill(path)
    with store.transaction():
        store.newest_closes_ns = 2 * T0
    copy = path.parent.parent / "copy"
    shutil.copytree(path.parent, copy)
    store.close()
    wal = copy / f"{path.name}-wal"
    wal.write_bytes(wal.read_bytes()[:-100])
    with store_type(copy / path.name) as store:
        assert store.position == at(39)
        assert store.newest_closes_ns != 2 * T0


def test_a_failed_transaction_leaves_nothing(kind: Any, path: Path) -> None:
    _, fill, _ = kind
    store = fill(path)
    with pytest.raises(KeyError), store.transaction():  # noqa: PT012
        store.position, store.newest_closes_ns = at(99), 2 * T0
        raise KeyError
    assert store.position == at(39)
    assert store.newest_closes_ns < 2 * T0
    store.close()


def test_a_newer_format_is_refused(kind: Any, path: Path) -> None:
    store_type, fill, read = kind
    fill(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 3")
    db.close()
    with pytest.raises(InvalidConfiguration, match=r"cannot open .* newer format version 3"):
        store_type(path)
    with pytest.raises(InvalidConfiguration, match="newer format version"):
        list(read(path))


def test_a_store_of_the_first_format_is_read_and_gets_its_witness(kind: Any, path: Path) -> None:
    store_type, fill, read = kind
    with fill(path):
        before = list(read(path))
    with sqlite3.connect(path) as db:
        sums = db.execute("SELECT * FROM witness ORDER BY name").fetchall()
        db.execute("DROP TABLE witness")
        db.execute("PRAGMA user_version = 1")
    db.close()
    assert list(read(path)) == before
    store_type(path).close()
    assert list(read(path)) == before
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT * FROM witness ORDER BY name").fetchall() == sums
        assert len(sums) >= 2
    db.close()


def test_another_programs_database_is_refused(kind: Any, path: Path) -> None:
    store_type, _, read = kind
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE other(x)")
    db.close()
    for use in (store_type, lambda path: list(read(path))):
        with pytest.raises(StateCorrupt, match="format version is 0"):
            use(path)


def test_a_file_that_is_no_database_is_refused(kind: Any, path: Path) -> None:
    store_type, _, read = kind
    path.parent.mkdir()
    path.write_bytes(b"not a database " * 1000)
    for use in (store_type, lambda path: list(read(path))):
        with pytest.raises(StateCorrupt, match="not a database"):
            use(path)


def test_a_directory_that_cannot_be_is_refused(kind: Any, path: Path) -> None:
    store_type, _, _ = kind
    path.parent.write_text("in the way")
    with pytest.raises(Unreachable, match="cannot open"):
        store_type(path)


def test_a_position_that_does_not_fit_its_tables_is_refused(kind: Any, path: Path) -> None:
    store_type, fill, _ = kind
    fill(path).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET position = ?, crc = ?", (at(7), row_crc(at(7), T0)))
        db.execute("UPDATE meta SET newest_closes_ns = ?", (T0,))
    db.close()
    with pytest.raises(StateCorrupt, match="its position"):
        store_type(path)


@pytest.mark.parametrize("checked_whole", [True, False])
def test_a_flipped_byte_anywhere_is_found_or_harmless(
    kind: Any, path: Path, checked_whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every 331st byte: opening and reading either refuse, or give exactly what was written."""
    store_type, fill, read = kind
    if not checked_whole:
        monkeypatch.setattr(sqlite_file, "CHECK_WHOLE_BYTES_MAX", 0)
    fill(path).close()
    good, rows = path.read_bytes(), list(read(path))
    found = 0
    for flipped in range(100, len(good), 331 if checked_whole else 509):
        path.write_bytes(good[:flipped] + bytes([good[flipped] ^ 0x10]) + good[flipped + 1 :])
        for leftover in path.parent.glob("*-*"):
            leftover.unlink()
        try:
            with store_type(path) as store:
                assert store.position == at(39)
            assert list(read(path)) == rows
        except (StateCorrupt, InvalidConfiguration):
            found += 1
    assert found > 5


def test_two_writers_exclude_each_other(
    kind: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_type, fill, _ = kind
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", 0.01)
    with fill(path) as store, store_type(path) as other, store.transaction():
        refused = pytest.raises(Unreachable, match="locked")
        with refused, other.transaction():
            pass
