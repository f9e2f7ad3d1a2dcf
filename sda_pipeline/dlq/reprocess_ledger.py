"""``reprocess.sqlite``: what was re-injected, one row per sending, for ever. No decisions.

A row is written before its message is produced (``intent``) and completed after the broker's
acknowledgement (``done``): an intent without its end is a sending of which a kill left unknown
whether the broker has it. One writer at a time: ``reprocess.lock`` is held while it is open.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

from sda_pipeline.dlq.redrive import Intent, Sending
from sda_pipeline.errors import AlreadyRunning, SdaError, Unreachable
from sda_pipeline.state.row_crc import check_row, row_crc
from sda_pipeline.state.sqlite_file import META_SCHEMA, SqliteFile, reading

FILE_NAME, LOCK_NAME = "reprocess.sqlite", "reprocess.lock"
FORMAT_VERSION = 2  # counted with the other SQLite stores, whose tables for ``meta`` it shares
_HINT = "move it aside: what was re-injected is then known from the logs alone"
_SCHEMA = (
    *META_SCHEMA,  # ``position`` there is the number of the last run
    """CREATE TABLE sendings(
        id INTEGER PRIMARY KEY, run INTEGER NOT NULL, dlq_id TEXT NOT NULL, root TEXT NOT NULL,
        topic TEXT NOT NULL, attempts INTEGER NOT NULL, expected TEXT NOT NULL,
        intent_ns INTEGER NOT NULL, done_ns INTEGER, crc INTEGER NOT NULL)""",
    "CREATE INDEX sendings_by_root ON sendings(root)",
)
_COLUMNS = "id, run, dlq_id, root, topic, attempts, expected, intent_ns, done_ns"


class ReprocessLedger:
    """The one writer. AlreadyRunning when another has it open; else as ``SqliteFile``."""

    def __init__(self, state: Path) -> None:
        self._lock = _take_lock(state / LOCK_NAME)
        try:
            self._file = SqliteFile(
                state / FILE_NAME, _SCHEMA, FORMAT_VERSION, ("meta", "sendings"), _HINT, queries={}
            )
        except BaseException:
            os.close(self._lock)
            raise
        self._run = 0

    def sendings(self) -> Iterator[Sending]:
        """Every row, oldest first. StateCorrupt when one is damaged."""
        for row in self._file.rows(f"SELECT {_COLUMNS}, crc FROM sendings ORDER BY id"):  # noqa: S608
            yield _sending(row)

    def intend(self, intents: Sequence[Intent], now_ns: int) -> list[Sending]:
        """Make it durable that these are about to be produced. The first call begins a run."""
        with self._file.transaction():
            if not self._run:
                run = self._file.load_meta()[0] + 1
                self._file.store_meta(run, 0)
            else:
                run = self._run
            (last,) = self._file.db.execute("SELECT coalesce(max(id), 0) FROM sendings").fetchone()
            rows = [
                Sending(last + k, run, *intent, now_ns, None)
                for k, intent in enumerate(intents, start=1)
            ]
            self._file.db.executemany(
                "INSERT INTO sendings VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(*row, row_crc(*row)) for row in rows],
            )
        self._run = run
        return rows

    def complete(self, sendings: Iterable[Sending], now_ns: int) -> None:
        """Make it durable that the broker has these."""
        done = [sending._replace(done_ns=now_ns) for sending in sendings]
        with self._file.transaction():
            self._file.db.executemany(
                "UPDATE sendings SET done_ns = ?, crc = ? WHERE id = ?",
                [(row.done_ns, row_crc(*row), row.id) for row in done],
            )

    def close(self) -> None:
        self._file.close()
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_sendings(state: Path) -> list[Sending]:
    """Every row, oldest first, beside a running writer or not; none when there is no ledger."""
    with reading(state / FILE_NAME, _SCHEMA, FORMAT_VERSION, _HINT) as db:
        return [] if db is None else [*_all(db)]


def _all(db: sqlite3.Connection) -> Iterator[Sending]:
    for row in db.execute(f"SELECT {_COLUMNS}, crc FROM sendings ORDER BY id"):  # noqa: S608
        yield _sending(row)


def _sending(row: tuple[object, ...]) -> Sending:
    *values, crc = row
    sending = Sending(*values)  # type: ignore[arg-type]  # the CRC says that it is one
    check_row(f"sending {sending.id} of {FILE_NAME}", crc, *sending)  # type: ignore[arg-type]
    return sending


def _take_lock(path: Path) -> int:
    """The locked descriptor; the lock goes with the process."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        why = error.strerror or str(error)
        raise Unreachable(f"open {path}", why, "run as the owner of the state") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise AlreadyRunning(
            "re-process", f"another sda-reprocess has {path.parent} open", "wait for its end"
        ) from error
    except OSError as error:
        os.close(fd)
        raise SdaError(f"lock {path}", error.strerror or str(error), "use a local disk") from error
    return fd
