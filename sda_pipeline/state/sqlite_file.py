"""Opening, checking and committing a SQLite file. Knows no table but ``meta``.

One writer each (the state directory's lock sees to it); readers open read-only and never write.
WAL, ``synchronous=FULL``: a commit is on disk when it returns.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from sda_pipeline.errors import InvalidConfiguration, SdaError, StateCorrupt, Unreachable
from sda_pipeline.limits import MIB
from sda_pipeline.state import witness
from sda_pipeline.state.row_crc import Value, check_row, row_crc
from sda_pipeline.state.witness import Witness

BUSY_TIMEOUT_S = 5.0  # a reader holds the file's lock only while it recovers the WAL
CHECK_WHOLE_BYTES_MAX = 256 * MIB  # 0.3 s; of a larger file only the tables every start needs
WAL_KEPT_BYTES = 64 * MIB  # a WAL that grew under a slow reader shrinks back to this

# What every store has: how far it has come in the outbox, and the newest ``closes`` it was told;
# and a witness of its rows.
META_SCHEMA = (
    """CREATE TABLE meta(
        one INTEGER PRIMARY KEY, position INTEGER NOT NULL, newest_closes_ns INTEGER NOT NULL,
        crc INTEGER NOT NULL)""",
    witness.SCHEMA,
)


class SqliteFile:
    """One open database. ``created`` says whether this open made it."""

    def __init__(
        self, path: Path, schema: tuple[str, ...], version: int, hot: tuple[str, ...], hint: str,
        queries: Mapping[str, str],
    ) -> None:  # fmt: skip
        """Open for writing: sync what was found, recover the WAL, check, create tables when new.

        ``hot`` names the tables to check when the file is too large to check whole; ``queries`` are
        the witness's. A store of an older format version is brought up to this one. Raises
        StateCorrupt (damaged, or another program's), InvalidConfiguration (newer format version),
        Unreachable (no permission, no space).
        """
        self.path, self._hint = path, hint
        with self._mapped("open"):
            self._prepare(path)
            self.db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            self.witness = Witness(self.db, queries)
            try:
                self.created = self._open(schema, version, hot)
            except BaseException:
                self.db.close()
                raise

    @staticmethod
    def _prepare(path: Path) -> None:
        """Sync what a killed predecessor left in the page cache.

        Before SQLite opens the file: closing a descriptor of it later would drop SQLite's locks.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for found in (path, path.with_name(f"{path.name}-wal")):
            if found.exists():
                _sync(found)
        _sync(path.parent)

    def _open(self, schema: tuple[str, ...], version: int, hot: tuple[str, ...]) -> bool:
        """Returns whether there was nothing before."""
        db, path = self.db, self.path
        found = _check_format(db, path, schema, version, self._hint)
        is_new = found == 0
        self._check(hot if path.stat().st_size > CHECK_WHOLE_BYTES_MAX else ())
        if self._scalar("PRAGMA journal_mode=WAL") != "wal":
            raise Unreachable(f"open {path}", "its file system allows no WAL", "use a local disk")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA journal_size_limit={WAL_KEPT_BYTES}")
        if is_new:
            with self.transaction():
                for statement in schema:
                    db.execute(statement)
                self.store_meta(0, 0)
                self.witness.begin()
                db.execute(f"PRAGMA user_version={version}")
        elif found < version:
            with self.transaction():
                db.execute(witness.SCHEMA)
                self.witness.begin()
                db.execute(f"PRAGMA user_version={version}")
        self.witness.load()
        # Recovered commits may have been in the page cache only: into the file, synced, before use.
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_new:
            _sync(path.parent)
        return is_new

    def _check(self, tables: tuple[str, ...]) -> None:
        # Whole: also that the indexes fit their tables; 1 is to report the first fault only.
        pragmas = [f"quick_check({name})" for name in tables] or ["integrity_check(1)"]
        for pragma in pragmas:
            found = self._scalar(f"PRAGMA {pragma}")
            if found != "ok":
                raise StateCorrupt(f"open {self.path}", str(found).splitlines()[0], self._hint)

    def _scalar(self, sql: str) -> Value:
        value: Value = self.db.execute(sql).fetchone()[0]
        return value

    def rows(self, sql: str, parameters: Sequence[Value] = ()) -> list[Any]:
        """All rows of a query, as tuples; errors are ours."""
        with self._mapped("read"):
            return self.db.execute(sql, parameters).fetchall()

    def load_meta(self) -> tuple[int, int]:
        """(position, newest closes in ns); zeros in a new store, StateCorrupt when damaged."""
        with self._mapped("read"):
            return read_meta(self.db, self.path, self._hint)

    def store_meta(self, position: int, newest_closes_ns: int) -> None:
        """Write both. Inside a transaction."""
        row = (position, newest_closes_ns)
        self.db.execute("INSERT OR REPLACE INTO meta VALUES(1, ?, ?, ?)", (*row, row_crc(*row)))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN IMMEDIATE ... COMMIT with sync; rolled back when the body or the commit raises.

        A failed commit is fatal: the caller must exit, the page cache would lie afterwards.
        """
        with self._mapped("write"):
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    with suppress(sqlite3.Error):  # the first error is the one to report
                        self.db.execute("ROLLBACK")
                raise

    @contextmanager
    def _mapped(self, action: str) -> Iterator[None]:
        """SQLite's and the file system's errors as ours."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise map_error(f"{action} {self.path}", error, self._hint) from error

    def close(self) -> None:
        """Close; the last connection checkpoints the WAL away."""
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def reading(
    path: Path, schema: tuple[str, ...], version: int, hint: str
) -> Iterator[sqlite3.Connection | None]:
    """A read-only connection in one snapshot, beside a running writer or not; None: no file."""
    if not path.exists():
        yield None
        return
    db: sqlite3.Connection | None = None
    try:
        uri = f"file:{quote(str(path.absolute()))}?mode=ro"
        db = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        db.execute("BEGIN")
        found = _check_format(db, path, schema, version, hint)
        yield db if found else None  # new: its writer has not committed the tables yet
    except (sqlite3.Error, OSError) as error:
        raise map_error(f"read {path}", error, hint) from error
    finally:
        if db is not None:
            db.close()


def read_meta(db: sqlite3.Connection, path: Path, hint: str) -> tuple[int, int]:
    """(position, newest closes in ns) of a database; StateCorrupt when damaged."""
    rows = db.execute("SELECT position, newest_closes_ns, crc FROM meta").fetchall()
    if len(rows) != 1:
        raise StateCorrupt(f"read {path}", "its position is missing", hint)
    position, newest_closes_ns, crc = rows[0]
    check_row(f"the position of {path.name}", crc, position, newest_closes_ns)
    return position, newest_closes_ns


def map_error(action: str, error: sqlite3.Error | OSError, hint: str) -> SdaError:
    """What a caller must do about an error of SQLite or the file system."""
    if isinstance(error, OSError):
        return Unreachable(action, str(error), "check that the directory is there and yours")
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_FULL", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_BUSY")):
        return Unreachable(action, str(error), "check free space, permissions and other users")
    if name.startswith("SQLITE_IOERR") and name != "SQLITE_IOERR_SHORT_READ":
        return Unreachable(action, str(error), "check the disk, then start again")
    return StateCorrupt(action, str(error), hint)


def _check_format(
    db: sqlite3.Connection, path: Path, schema: tuple[str, ...], version: int, hint: str
) -> int:
    """Refuse what is not in this format; its version, 0 when there is nothing in it yet."""
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    if found > version:
        raise InvalidConfiguration(
            f"open {path}",
            [f"it has the newer format version {found}, this release reads {version}"],
            "use the release that wrote it",
        )
    rows = db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    if not rows and not found:
        return 0
    if found < 1:
        raise StateCorrupt(f"open {path}", f"its format version is {found}, not {version}", hint)
    its = {sql for sql in schema if sql.startswith("CREATE")}
    if found < witness.SINCE:
        its.discard(witness.SCHEMA)
    if {row[0] for row in rows} != its:
        raise StateCorrupt(f"open {path}", "its tables are not those of its version", hint)
    return found


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
