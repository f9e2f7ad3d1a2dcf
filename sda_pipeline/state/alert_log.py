"""The alert sink's store, alerts.sqlite: alert records and the outbox onward. No decisions.

``entries`` is the outbox: what came from the correlator, byte for byte, delivered onward from here.
``records`` is the alert log that people read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec
import orjson

from sda_pipeline.errors import StateCorrupt
from sda_pipeline.limits import SEEN_SET_KEPT_NS
from sda_pipeline.records.alert import INSERT, RETRACT, Entry
from sda_pipeline.state.alert_state import UNSEEN, Change, State, Stored
from sda_pipeline.state.sqlite_file import (
    META_SCHEMA,
    SqliteFile,
    check_row,
    read_meta,
    reading,
    row_crc,
)

FORMAT_VERSION = 1
ENTRIES_KEPT = 10_000  # confirmed entries kept for a subscriber that lost its store; about 20 MB
PRUNE_EVERY = 1_000  # entries between two prunings
PRUNE_RECORDS_MAX = 2_000  # old records deleted in one transaction; bounds its pause

_HINT = "stop, move alerts.sqlite aside and start again: the correlator re-emits what it holds"
_SCHEMA = (
    *META_SCHEMA,
    """CREATE TABLE entries(
        position INTEGER PRIMARY KEY, kind INTEGER NOT NULL, count INTEGER NOT NULL,
        body BLOB NOT NULL, crc INTEGER NOT NULL)""",
    """CREATE TABLE records(
        alert_id TEXT NOT NULL, sequence INTEGER NOT NULL, position INTEGER NOT NULL,
        action TEXT NOT NULL, final INTEGER NOT NULL, level TEXT, closes_ns INTEGER NOT NULL,
        body BLOB NOT NULL, overdue INTEGER NOT NULL, latest INTEGER NOT NULL,
        crc INTEGER NOT NULL, PRIMARY KEY(alert_id, sequence))""",
    "CREATE INDEX records_by_position ON records(position)",
    "CREATE INDEX records_by_closes ON records(closes_ns)",
    """CREATE INDEX records_open ON records(closes_ns)
        WHERE latest = 1 AND action = 'insert' AND final = 0""",
)
_COLUMNS = "alert_id, sequence, position, action, final, level, closes_ns, body"


class AlertLog:
    """The open store. ``position`` and ``newest_closes_ns`` count what is being added, too."""

    def __init__(self, path: Path) -> None:
        """Open, repair, check; see ``SqliteFile`` for the errors."""
        self._file = SqliteFile(path, _SCHEMA, FORMAT_VERSION, ("meta", "entries"), _HINT)
        self._db, self.created = self._file.db, self._file.created
        self._pruned_at = 0
        try:
            self.position, self.newest_closes_ns = self._file.load_meta()
            last = self._file.rows("SELECT max(position) FROM entries")[0][0] or 0
            if last != self.position:
                why = f"its position is {self.position:#x}, its last entry {last:#x}"
                raise StateCorrupt(f"open {path}", why, _HINT)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything one batch changes: committed with sync, or nothing of it."""
        before = self.position, self.newest_closes_ns
        try:
            with self._file.transaction():
                yield
                self._file.store_meta(self.position, self.newest_closes_ns)
        except BaseException:
            self.position, self.newest_closes_ns = before
            raise

    # --- inside a transaction ---------------------------------------------------------------

    def stored(self, alert_id: str) -> Stored:
        """The newest record of an alert; ``UNSEEN`` when there is none."""
        rows = self._file.rows(
            f"SELECT {_COLUMNS}, crc FROM records"  # noqa: S608
            " WHERE alert_id = ? ORDER BY sequence DESC LIMIT 1",
            (alert_id,),
        )
        return _stored(rows[0]) if rows else UNSEEN

    def open_before(self, closed_ns: int) -> list[tuple[str, Stored, bytes]]:
        """Alerts active, provisional and closed by ``closed_ns``: id, state, body; oldest first."""
        rows = self._file.rows(
            f"SELECT {_COLUMNS}, crc FROM records"  # noqa: S608
            " WHERE latest = 1 AND action = 'insert' AND final = 0 AND closes_ns <= ?"
            " ORDER BY closes_ns, alert_id",
            (closed_ns,),
        )
        return [(row[0], _stored(row), row[7]) for row in rows]

    def add_entry(self, entry: Entry) -> None:
        """Append one outbox entry; the store's position moves to it."""
        row = (entry.position, entry.kind, entry.count, entry.body)
        self._db.execute("INSERT INTO entries VALUES(?, ?, ?, ?, ?)", (*row, row_crc(*row)))
        self.position = entry.position

    def add_records(self, change: Change, position: int, bodies: list[bytes]) -> None:
        """Append the records of one change: its own, after the retract of a pair."""
        self._db.execute(
            "UPDATE records SET latest = 0 WHERE alert_id = ? AND latest = 1", (change.alert_id,)
        )
        for back, body in enumerate(reversed(bodies)):
            level = change.level if back == 0 else None
            action = INSERT if level is not None else RETRACT
            row = (
                change.alert_id, change.sequence - back, position, action, int(change.final), level,
                change.closes_ns, body,
            )  # fmt: skip
            values = (*row, 0, int(back == 0), row_crc(*row))
            self._db.execute("INSERT INTO records VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        self.newest_closes_ns = max(self.newest_closes_ns, change.closes_ns)

    def add_withdrawal(
        self, alert_id: str, new: Stored, position: int, body: bytes, *, reason: str
    ) -> None:
        """Append the retract a ``closed_through`` implies; ``body`` is the record withdrawn."""
        old: dict[str, Any] = orjson.loads(body)
        retract = {
            "alert_id": alert_id, "sequence": new.sequence, "action": RETRACT, "final": new.final,
            "supersedes": old["sequence"], "reason": reason,
            "sat1": old["sat1"], "sat2": old["sat2"], "closes": old["closes"],
        }  # fmt: skip
        change = Change(alert_id, new.sequence, None, new.final, new.closes_ns)
        self.add_records(change, position, [orjson.dumps(retract)])

    def prune(self, confirmed: int) -> None:
        """Delete entries the subscriber confirmed long ago, and records closed 30 days ago.

        Bounded work, every ``PRUNE_EVERY`` entries; otherwise nothing.
        """
        if self.position - self._pruned_at < PRUNE_EVERY:
            return
        self._pruned_at = self.position
        oldest = self._db.execute(
            "SELECT position FROM entries WHERE position <= ?"
            " ORDER BY position DESC LIMIT 1 OFFSET ?",
            (min(confirmed, self.position), ENTRIES_KEPT),
        ).fetchone()
        if oldest is not None:
            self._db.execute("DELETE FROM entries WHERE position <= ?", oldest)
        self._db.execute(
            "DELETE FROM records WHERE rowid IN"
            " (SELECT rowid FROM records WHERE closes_ns < ? LIMIT ?)",
            (self.newest_closes_ns - SEEN_SET_KEPT_NS, PRUNE_RECORDS_MAX),
        )

    # --- outside ------------------------------------------------------------------------------

    def entries_above(self, position: int, limit: int) -> list[Entry]:
        """Up to ``limit`` entries above a position, in order; StateCorrupt when one is damaged."""
        rows = self._file.rows(
            "SELECT position, kind, count, body, crc FROM entries WHERE position > ?"
            " ORDER BY position LIMIT ?",
            (min(position, self.position), limit),
        )
        for *fields, crc in rows:
            check_row(f"entry {fields[0]:#x} of alerts.sqlite", crc, *fields)
        return [Entry(*row[:-1]) for row in rows]

    def recent_keys(self, limit: int) -> list[tuple[str, int]]:
        """(alert_id, sequence) of the newest records, oldest first."""
        rows = self._file.rows(
            "SELECT alert_id, sequence FROM records ORDER BY position DESC, sequence DESC LIMIT ?",
            (limit,),
        )
        return rows[::-1]

    def mark_overdue(self, above: int, through: int) -> int:
        """Mark the records of entries in (above, through], each once; returns how many."""
        with self._file.transaction():
            return self._db.execute(
                "UPDATE records SET overdue = 1"
                " WHERE overdue = 0 AND position > ? AND position <= ?",
                (above, through),
            ).rowcount

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def raw_bodies(body: bytes) -> list[bytes]:
    """The records of an entry, each as its own bytes, untouched."""
    return [bytes(raw) for raw in _raw_decoder.decode(body)]


_raw_decoder = msgspec.json.Decoder(list[msgspec.Raw])


def _stored(row: tuple[Any, ...]) -> Stored:
    *values, crc = row
    alert_id, sequence, _, action, final, level, closes_ns, _ = values
    check_row(f"alert {alert_id} of alerts.sqlite", crc, *values)
    state = State.ACTIVE if action == INSERT else State.WITHDRAWN
    return Stored(state, sequence, level, bool(final), closes_ns)


class Logged(NamedTuple):
    """One row of the alert log."""

    alert_id: str
    sequence: int
    position: int
    action: str
    final: bool
    level: str | None
    closes_ns: int
    body: bytes


class AlertView:
    """The whole store as of one moment. StateCorrupt when a row is damaged."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self.position, self.newest_closes_ns = read_meta(db, path, _HINT)

    def entries(self) -> Iterator[Entry]:
        """The outbox entries still held, by position."""
        sql = "SELECT position, kind, count, body, crc FROM entries ORDER BY position"
        for *fields, crc in self._db.execute(sql):
            check_row(f"entry {fields[0]:#x} of alerts.sqlite", crc, *fields)
            yield Entry(*fields)

    def records(self) -> Iterator[Logged]:
        """The records still held, by position and sequence."""
        sql = f"SELECT {_COLUMNS}, crc FROM records ORDER BY position, alert_id, sequence"  # noqa: S608
        for row in self._db.execute(sql):
            _stored(row)
            alert_id, sequence, position, action, final, *rest = row[:-1]
            yield Logged(alert_id, sequence, position, action, bool(final), *rest)

    def mislabelled(self) -> list[str]:
        """Alerts whose ``latest`` flag is not on their newest record, and on that alone."""
        sql = (
            "SELECT alert_id FROM records GROUP BY alert_id"
            " HAVING sum(latest) != 1 OR max(sequence * latest) != max(sequence)"
        )
        return [row[0] for row in self._db.execute(sql)]


@contextmanager
def viewing(path: Path) -> Iterator[AlertView | None]:
    """A view for an audit, beside a running sink or not; None when there is no store yet."""
    with reading(path, _SCHEMA, FORMAT_VERSION, _HINT) as db:
        yield None if db is None else AlertView(db, path)


def read_alerts(
    path: Path, *, final_only: bool = False, after: int = 0
) -> Iterator[dict[str, Any]]:
    """The last record of each alert, by position; with ``final_only`` those that are final inserts.

    Only alerts whose last record stands at an outbox position above ``after``. Works beside a
    running sink; no file means no alerts. StateCorrupt when a record is damaged.
    """
    with reading(path, _SCHEMA, FORMAT_VERSION, _HINT) as db:
        rows = []
        if db is not None:
            rows = db.execute(
                f"SELECT {_COLUMNS}, crc, max(sequence) FROM records GROUP BY alert_id"  # noqa: S608
                " HAVING position > ? ORDER BY position, alert_id",
                (after,),
            ).fetchall()
    for *row, _ in rows:
        stored = _stored(tuple(row))
        if not final_only or (stored.final and stored.state is State.ACTIVE):
            record: dict[str, Any] = orjson.loads(row[7])
            yield record
