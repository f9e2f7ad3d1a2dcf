"""The subscriber's store, subscriber.sqlite: seen-set and action ledger. No decisions.

``seen`` holds the newest accepted record of each alert. ``ledger`` holds one row per effect, for
ever: its unique indexes are the last line of defence for "one raise per alert" and "each sequence
once".
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar

from sda_pipeline.errors import StateCorrupt
from sda_pipeline.limits import SEEN_SET_KEPT_NS
from sda_pipeline.records.time_text import format_time
from sda_pipeline.state.alert_state import UNSEEN, Action, State, Stored
from sda_pipeline.state.row_crc import check_row, row_crc
from sda_pipeline.state.sqlite_file import (
    META_SCHEMA,
    SqliteFile,
    read_meta,
    reading,
)
from sda_pipeline.state.witness import differences, sums_of
from sda_pipeline.vocabulary import Effect

_E = TypeVar("_E", bound=StrEnum)

FORMAT_VERSION = 2  # 1 had no witness; the first start adds it
FILE_NAME = "subscriber.sqlite"
PRUNE_MAX = 2_000  # old alerts forgotten in one transaction; bounds its pause

_HINT = "restore it from a copy; without one move it aside and start again: effects may then repeat"
_SCHEMA = (
    *META_SCHEMA,
    """CREATE TABLE seen(
        alert_id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, state TEXT NOT NULL, level TEXT,
        final INTEGER NOT NULL, closes_ns INTEGER NOT NULL, body BLOB NOT NULL,
        crc INTEGER NOT NULL)""",
    "CREATE INDEX seen_by_closes ON seen(closes_ns)",
    "CREATE INDEX seen_open ON seen(closes_ns) WHERE state = 'active' AND final = 0",
    """CREATE TABLE ledger(
        id INTEGER PRIMARY KEY, alert_id TEXT NOT NULL, sequence INTEGER NOT NULL,
        effect TEXT NOT NULL, level TEXT, final INTEGER NOT NULL, position INTEGER NOT NULL,
        at_ns INTEGER NOT NULL, ingest_ns INTEGER, crc INTEGER NOT NULL)""",
    "CREATE UNIQUE INDEX ledger_raise ON ledger(alert_id) WHERE effect = 'raise'",
    "CREATE UNIQUE INDEX ledger_sequence ON ledger(alert_id, sequence)",
)
_SEEN = "alert_id, sequence, state, level, final, closes_ns, body"
_LEDGER = "alert_id, sequence, effect, level, final, position, at_ns, ingest_ns"
_WITNESS = {"ledger": sums_of("ledger"), "seen": sums_of("seen")}


class SubscriberStore:
    """The open store. ``position`` and ``newest_closes_ns`` count what is being added, too."""

    def __init__(self, path: Path) -> None:
        """Open, repair, check; see ``SqliteFile`` for the errors."""
        self._file = SqliteFile(path, _SCHEMA, FORMAT_VERSION, ("meta", "seen"), _HINT, _WITNESS)
        self._db, self.created = self._file.db, self._file.created
        self._witness = self._file.witness
        try:
            self.position, self.newest_closes_ns = self._file.load_meta()
            last = self._file.rows(f"SELECT {_LEDGER}, crc FROM ledger ORDER BY id DESC LIMIT 1")  # noqa: S608
            if last and _action(last[0]).position > self.position:
                raise StateCorrupt(f"open {path}", "its ledger goes beyond its position", _HINT)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything one batch changes; committed with sync, or nothing of it."""
        before, sums = (self.position, self.newest_closes_ns), dict(self._witness.sums)
        try:
            with self._file.transaction():
                yield
                self._file.store_meta(self.position, self.newest_closes_ns)
                self._forget()
                self._witness.store()
        except BaseException:
            self.position, self.newest_closes_ns = before
            self._witness.restore(sums)
            raise

    def stored(self, alert_id: str) -> Stored:
        """What is known of an alert, else ``UNSEEN``. StateCorrupt when it is damaged."""
        rows = self._file.rows(
            f"SELECT {_SEEN}, crc FROM seen WHERE alert_id = ?",  # noqa: S608
            (alert_id,),
        )
        return _stored(rows[0]) if rows else UNSEEN

    def open_before(self, closed_ns: int) -> list[tuple[str, Stored, bytes]]:
        """Alerts active, provisional and closed by ``closed_ns``: id, state, body; oldest first."""
        rows = self._file.rows(
            f"SELECT {_SEEN}, crc FROM seen"  # noqa: S608
            " WHERE state = 'active' AND final = 0 AND closes_ns <= ? ORDER BY closes_ns, alert_id",
            (closed_ns,),
        )
        return [(row[0], _stored(row), row[6]) for row in rows]

    def put(self, alert_id: str, new: Stored, body: bytes) -> None:
        """The alert's new state and current record. Inside a transaction."""
        row = (
            alert_id, new.sequence, str(new.state), new.level, int(new.final), new.closes_ns, body,
        )  # fmt: skip
        old = self._db.execute("SELECT crc FROM seen WHERE alert_id = ?", (alert_id,)).fetchall()
        self._witness.remove("seen", (crc for (crc,) in old))
        values = (*row, row_crc(*row))
        self._db.execute("INSERT OR REPLACE INTO seen VALUES(?, ?, ?, ?, ?, ?, ?, ?)", values)
        self._witness.add("seen", values[-1])
        self.newest_closes_ns = max(self.newest_closes_ns, new.closes_ns)

    def act(self, action: Action) -> None:
        """One effect into the ledger. Inside a transaction.

        StateCorrupt on a second raise of an alert or a second effect of a sequence.
        """
        row = (
            action.alert_id, action.sequence, str(action.effect), action.level, int(action.final),
            action.position, action.at_ns, action.ingest_ns,
        )  # fmt: skip
        values = (*row, row_crc(*row))
        self._db.execute("INSERT INTO ledger VALUES(NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        self._witness.add("ledger", values[-1])

    def _forget(self) -> None:
        """Forget alerts closed 30 days before the newest; later records of theirs are refused."""
        gone = self._db.execute(
            "DELETE FROM seen WHERE rowid IN (SELECT rowid FROM seen WHERE closes_ns < ? LIMIT ?)"
            " RETURNING crc",
            (self.newest_closes_ns - SEEN_SET_KEPT_NS, PRUNE_MAX),
        )
        self._witness.remove("seen", (crc for (crc,) in gone.fetchall()))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _stored(row: tuple[Any, ...]) -> Stored:
    *values, crc = row
    alert_id, sequence, state, level, final, closes_ns, _ = values
    check_row(f"alert {alert_id} of subscriber.sqlite", crc, *values)
    return Stored(_named(State, state), sequence, level, bool(final), closes_ns)


def _named(kind: type[_E], value: str) -> _E:
    """A member of a vocabulary by its value."""
    try:
        return kind(value)
    except ValueError as error:
        raise StateCorrupt("read subscriber.sqlite", str(error), _HINT) from error


class SubscriberView:
    """The whole store as of one moment. StateCorrupt when a row is damaged."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self.position, self.newest_closes_ns = read_meta(db, path, _HINT)

    def ledger(self) -> Iterator[tuple[int, Action]]:
        """The ledger in order: row id and action."""
        for row in self._db.execute(f"SELECT id, {_LEDGER}, crc FROM ledger ORDER BY id"):  # noqa: S608
            yield row[0], _action(row[1:])

    def differences(self) -> Iterator[str]:
        """What is not as it was committed, beginning with its table."""
        return differences(self._db, _WITNESS)

    def seen(self) -> Iterator[tuple[str, Stored, bytes]]:
        """The seen-set: alert, what is stored of it, its current record."""
        for row in self._db.execute(f"SELECT {_SEEN}, crc FROM seen"):  # noqa: S608
            yield row[0], _stored(row), row[6]


@contextmanager
def viewing(path: Path) -> Iterator[SubscriberView | None]:
    """A view for an audit, beside a running subscriber or not; None when there is no store yet."""
    with reading(path, _SCHEMA, FORMAT_VERSION, _HINT) as db:
        yield None if db is None else SubscriberView(db, path)


def read_actions(path: Path, after: int = 0) -> Iterator[Action]:
    """The ledger in order, from the row after the first ``after`` rows on.

    Works beside a running subscriber; no file means no effects. StateCorrupt when a row is damaged.
    """
    with reading(path, _SCHEMA, FORMAT_VERSION, _HINT) as db:
        rows = []
        if db is not None:
            sql = f"SELECT {_LEDGER}, crc FROM ledger WHERE id > ? ORDER BY id"  # noqa: S608
            rows = db.execute(sql, (after,)).fetchall()
    yield from map(_action, rows)


def read_news(path: Path, after: int = 0) -> list[tuple[Action, bytes]]:
    """The ledger after its first ``after`` rows, each with the newest record stored of its alert.

    One snapshot; ``b""`` for an alert the seen-set has forgotten. Otherwise as ``read_actions``.
    """
    with reading(path, _SCHEMA, FORMAT_VERSION, _HINT) as db:
        if db is None:
            return []
        sql = f"SELECT {_LEDGER}, crc FROM ledger WHERE id > ? ORDER BY id"  # noqa: S608
        actions = [_action(row) for row in db.execute(sql, (after,))]
        sql = f"SELECT {_SEEN}, crc FROM seen WHERE alert_id = ?"  # noqa: S608
        bodies = dict[str, bytes]()
        for alert_id in {action.alert_id for action in actions}:
            for row in db.execute(sql, (alert_id,)):
                _stored(row)
                bodies[alert_id] = row[6]
    return [(action, bodies.get(action.alert_id, b"")) for action in actions]


def _action(row: tuple[Any, ...]) -> Action:
    *values, crc = row
    alert_id, sequence, effect, level, final, position, at_ns, ingest_ns = values
    check_row(f"the effect on alert {alert_id}", crc, *values)
    return Action(
        alert_id, sequence, _named(Effect, effect), level, bool(final), position, at_ns, ingest_ns
    )


def read_effects(path: Path, after: int = 0) -> Iterator[dict[str, Any]]:
    """``read_actions`` as ``effects --json`` prints it; ``at`` is RFC 3339."""
    for action in read_actions(path, after):
        yield {
            "alert_id": action.alert_id,
            "sequence": action.sequence,
            "effect": str(action.effect),
            "level": action.level,
            "final": action.final,
            "position": action.position,
            "at": format_time(action.at_ns),
        }
