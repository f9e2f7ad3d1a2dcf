"""The alert sink's store, alerts.sqlite: alert records and the outbox onward. No decisions.

``entries`` is the outbox: what came from the correlator, byte for byte, delivered onward from here.
``records`` is the alert log that people read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec
import orjson

from sda_pipeline.errors import StateCorrupt
from sda_pipeline.limits import SEEN_SET_KEPT_NS
from sda_pipeline.records.alert import INSERT, RETRACT, Entry
from sda_pipeline.state.alert_state import UNSEEN, Change, Stored
from sda_pipeline.state.alert_view import (
    COLUMNS,
    CONFIRMED,
    FORMAT_VERSION,
    HINT,
    SCHEMA,
    WITNESS,
    AlertView,
    Logged,
    read_alerts,
    stored_in,
    viewing,
)
from sda_pipeline.state.row_crc import check_row, row_crc
from sda_pipeline.state.sqlite_file import SqliteFile

__all__ = ["AlertLog", "AlertView", "Logged", "raw_bodies", "read_alerts", "viewing"]

ENTRIES_KEPT = 10_000  # confirmed entries kept for a subscriber that lost its store; about 20 MB
PRUNE_EVERY = 1_000  # entries between two prunings
PRUNE_RECORDS_MAX = 2_000  # old records deleted in one transaction; bounds its pause


class AlertLog:
    """The open store. ``position`` and ``newest_closes_ns`` count what is being added, too."""

    def __init__(self, path: Path) -> None:
        """Open, repair, check; see ``SqliteFile`` for the errors."""
        self._file = SqliteFile(path, SCHEMA, FORMAT_VERSION, ("meta", "entries"), HINT, WITNESS)
        self._db, self.created = self._file.db, self._file.created
        self._witness = self._file.witness
        self._pruned_at = 0
        try:
            self.position, self.newest_closes_ns = self._file.load_meta()
            last = self._file.rows("SELECT max(position) FROM entries")[0][0] or 0
            if last != self.position:
                why = f"its position is {self.position:#x}, its last entry {last:#x}"
                raise StateCorrupt(f"open {path}", why, HINT)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything one batch changes: committed with sync, or nothing of it."""
        before, sums = (self.position, self.newest_closes_ns), dict(self._witness.sums)
        try:
            with self._file.transaction():
                yield
                self._file.store_meta(self.position, self.newest_closes_ns)
                self._witness.store()
        except BaseException:
            self.position, self.newest_closes_ns = before
            self._witness.restore(sums)
            raise

    # --- inside a transaction ---------------------------------------------------------------

    def stored(self, alert_id: str) -> Stored:
        """The newest record of an alert; ``UNSEEN`` when there is none."""
        rows = self._file.rows(
            f"SELECT {COLUMNS}, crc FROM records"  # noqa: S608
            " WHERE alert_id = ? ORDER BY sequence DESC LIMIT 1",
            (alert_id,),
        )
        return stored_in(rows[0]) if rows else UNSEEN

    def open_before(self, closed_ns: int) -> list[tuple[str, Stored, bytes]]:
        """Alerts active, provisional and closed by ``closed_ns``: id, state, body; oldest first."""
        rows = self._file.rows(
            f"SELECT {COLUMNS}, crc FROM records"  # noqa: S608
            " WHERE latest = 1 AND action = 'insert' AND final = 0 AND closes_ns <= ?"
            " ORDER BY closes_ns, alert_id",
            (closed_ns,),
        )
        return [(row[0], stored_in(row), row[7]) for row in rows]

    def add_entry(self, entry: Entry) -> None:
        """Append one outbox entry; the store's position moves to it."""
        row = (entry.position, entry.kind, entry.count, entry.body)
        values = (*row, row_crc(*row))
        self._db.execute("INSERT INTO entries VALUES(?, ?, ?, ?, ?)", values)
        self._witness.add("entries", values[-1])
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
            self._witness.add("records", values[-1])
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
            sql = "DELETE FROM entries WHERE position <= ? RETURNING crc"
            self._witness.remove("entries", (crc for (crc,) in self._db.execute(sql, oldest)))
        gone = self._db.execute(
            "DELETE FROM records WHERE rowid IN"
            " (SELECT rowid FROM records WHERE closes_ns < ? LIMIT ?) RETURNING crc, overdue",
            (self.newest_closes_ns - SEEN_SET_KEPT_NS, PRUNE_RECORDS_MAX),
        ).fetchall()
        self._witness.remove("records", (crc for crc, _ in gone))
        self._witness.remove("overdue", (crc for crc, overdue in gone if overdue))

    def confirm(self, position: int) -> None:
        """Write down how far the subscriber says it is. Inside a transaction."""
        if self._witness.sums.get(CONFIRMED) != (0, position):
            self._witness.set(CONFIRMED, 0, position)

    @property
    def confirmed(self) -> int:
        """What was last written down of the subscriber's position."""
        return self._witness.sums.get(CONFIRMED, (0, 0))[1]

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
        with self.transaction():
            marked = self._db.execute(
                "UPDATE records SET overdue = 1"
                " WHERE overdue = 0 AND position > ? AND position <= ? RETURNING crc",
                (above, through),
            ).fetchall()
            for (crc,) in marked:
                self._witness.add("overdue", crc)
        return len(marked)

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
