"""Reading the alert sink's store, and its tables. Not its one writer (``alert_log.py``)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from sda_pipeline.records.alert import INSERT, Entry
from sda_pipeline.state.alert_state import State, Stored
from sda_pipeline.state.row_crc import check_row
from sda_pipeline.state.sqlite_file import META_SCHEMA, read_meta, reading
from sda_pipeline.state.witness import SINCE, differences, read, sums_of

FORMAT_VERSION = 2  # 1 had no witness; the first start adds it

HINT = "stop, move alerts.sqlite aside and start again: the correlator re-emits what it holds"
SCHEMA = (
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
COLUMNS = "alert_id, sequence, position, action, final, level, closes_ns, body"
WITNESS = {
    "entries": sums_of("entries"), "records": sums_of("records"),
    "overdue": sums_of("records", "overdue = 1"),
}  # fmt: skip
CONFIRMED = "confirmed"  # the subscriber's position as it was last told; no rows are counted


def stored_in(row: tuple[Any, ...]) -> Stored:
    """A row of ``COLUMNS`` and its CRC as what is known of its alert; StateCorrupt if damaged."""
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
        self.position, self.newest_closes_ns = read_meta(db, path, HINT)

    def entries(self) -> Iterator[Entry]:
        """The outbox entries still held, by position."""
        sql = "SELECT position, kind, count, body, crc FROM entries ORDER BY position"
        for *fields, crc in self._db.execute(sql):
            check_row(f"entry {fields[0]:#x} of alerts.sqlite", crc, *fields)
            yield Entry(*fields)

    def records(self) -> Iterator[Logged]:
        """The records still held, by position and sequence."""
        sql = f"SELECT {COLUMNS}, crc FROM records ORDER BY position, alert_id, sequence"  # noqa: S608
        for row in self._db.execute(sql):
            stored_in(row)
            alert_id, sequence, position, action, final, *rest = row[:-1]
            yield Logged(alert_id, sequence, position, action, bool(final), *rest)

    def differences(self) -> Iterator[str]:
        """What is not as it was committed, beginning with its table."""
        return differences(self._db, WITNESS)

    def confirmed(self) -> int:
        """The subscriber's position as the sink was last told; 0: never, or by an older release."""
        is_older = self._db.execute("PRAGMA user_version").fetchone()[0] < SINCE
        return 0 if is_older else read(self._db).get(CONFIRMED, (0, 0))[1]

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
    with reading(path, SCHEMA, FORMAT_VERSION, HINT) as db:
        yield None if db is None else AlertView(db, path)


def read_alerts(
    path: Path, *, final_only: bool = False, after: int = 0
) -> Iterator[dict[str, Any]]:
    """The last record of each alert, by position; with ``final_only`` those that are final inserts.

    Only alerts whose last record stands at an outbox position above ``after``. Works beside a
    running sink; no file means no alerts. StateCorrupt when a record is damaged.
    """
    with reading(path, SCHEMA, FORMAT_VERSION, HINT) as db:
        rows = []
        if db is not None:
            rows = db.execute(
                f"SELECT {COLUMNS}, crc, max(sequence) FROM records GROUP BY alert_id"  # noqa: S608
                " HAVING position > ? ORDER BY position, alert_id",
                (after,),
            ).fetchall()
    for *row, _ in rows:
        stored = stored_in(tuple(row))
        if not final_only or (stored.final and stored.state is State.ACTIVE):
            record: dict[str, Any] = orjson.loads(row[7])
            yield record
