"""SQLite and LMDB below the real stores: real SQL and real keys, on images instead of files.

``SimSqliteFile`` stands for state/sqlite_file.SqliteFile, ``SimEnvironment`` for what
state/environment.open_environment returns. Held to the real ones by test_simulated_stores.py.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from sda_pipeline.errors import StateCorrupt, Unreachable
from sda_pipeline.state.environment import DATA_FILE
from sda_pipeline.state.sqlite_file import SqliteFile
from sda_pipeline.state.witness import Witness
from tests.simulation.fibers import Killed
from tests.simulation.sim_disk import MAGIC, Database, Disk, Tables, token_of

PAGE_BYTES = 4096
_tokens = itertools.count(1)


@cache
def _image(schema: tuple[str, ...], version: int) -> bytes:
    """An empty database of this schema."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    for statement in schema:
        db.execute(statement)
    db.execute(f"PRAGMA user_version={version}")
    image = db.serialize()
    db.close()
    return image


class SimSqliteFile(SqliteFile):
    """The connection belongs to the disk; opening finds what was committed, and syncs it."""

    def __init__(
        self, path: Path, schema: tuple[str, ...], version: int, hot: tuple[str, ...], hint: str,
        queries: Mapping[str, str],
    ) -> None:  # fmt: skip
        self.path, self._hint = path, hint
        databases = Disk.now.databases
        self.created = path not in databases
        if self.created:
            db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            db.deserialize(_image(schema, version))
            databases[path] = Database(db)
        self._database = databases[path]
        self.db = self._database.connection
        self.witness = Witness(self.db, queries)
        if self.created:
            self.store_meta(0, 0)
            self.witness.begin()
        self.witness.load()
        if Disk.opening_syncs:
            self._database.unsynced_before = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """As the real one, and it may die with the commit in the page cache only."""
        dies = Disk.now.dies_at("sqlite_commit")
        before = self.db.serialize() if dies else None
        with super().transaction():
            yield
        if dies:
            self._database.unsynced_before = before
            raise Killed

    def close(self) -> None:
        pass


@contextmanager
def reading(path: Path, *_: object) -> Iterator[sqlite3.Connection | None]:
    """As ``sqlite_file.reading``."""
    found = Disk.now.databases.get(path)
    yield found.connection if found else None


class SimTransaction:
    """As an lmdb.Transaction: a copy of the tables, put back at the end when it writes."""

    def __init__(self, environment: SimEnvironment, name: str | None, *, write: bool) -> None:
        self._environment, self._name, self._write = environment, name, write
        now = environment.tables.now
        self._tables = {name: dict(table) for name, table in now.items()} if write else now

    def __enter__(self) -> SimTransaction:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._write and kind is None:
            self._environment.commit(self._tables)

    def table(self, db: str | None) -> dict[bytes, bytes]:
        """The named database of this transaction; the main one lists the names of the others."""
        name = db or self._name
        if name is None:
            return {name.encode(): b"" for name in self._tables}
        return self._tables.setdefault(name, {})

    def get(self, key: bytes, db: str | None = None) -> bytes | None:
        return self.table(db).get(key)

    def put(self, key: bytes, value: bytes, db: str | None = None) -> bool:
        self.table(db)[bytes(key)] = bytes(value)
        return True

    def delete(self, key: bytes, db: str | None = None) -> bool:
        return self.table(db).pop(key, None) is not None

    def cursor(self, db: str | None = None) -> SimCursor:
        return SimCursor(self.table(db))


class SimCursor:
    """As an lmdb.Cursor, as far as the store walks."""

    def __init__(self, table: dict[bytes, bytes]) -> None:
        self._table, self._keys, self._at = table, sorted(table), 0

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter([(key, self._table[key]) for key in self._keys])

    def first(self) -> bool:
        self._at = 0
        return bool(self._keys)

    def key(self) -> bytes:
        return self._keys[self._at] if self._at < len(self._keys) else b""

    def delete(self) -> bool:
        del self._table[self._keys.pop(self._at)]
        return True


class SimEnvironment:
    """As an lmdb.Environment. Its file names the tables by a token, or is a copy and holds them."""

    def __init__(self, file: Path, *, readonly: bool = False) -> None:
        self._file = file
        data = file.read_bytes()
        if data[: len(MAGIC)] != MAGIC:
            raise StateCorrupt(f"open {file}", "its magic is wrong")
        known = Disk.now.environments.get(token_of(data))
        if known is None:
            known = _loaded(data[16:], file)
            if not readonly:  # a snapshot stays what its manifest says
                _write(file, Disk.now.environments, known)
        self.tables = known

    def open_db(self, name: bytes, txn: SimTransaction | None = None, create: bool = True) -> str:
        if txn is not None:
            txn.table(name.decode())
        elif name.decode() not in self.tables.now:
            assert not create, "a store makes its databases in a transaction"
            raise lmdb.NotFoundError(name.decode())
        return name.decode()

    def begin(
        self, db: str | None = None, write: bool = False, buffers: bool = False
    ) -> SimTransaction:
        return SimTransaction(self, db, write=write)

    def commit(self, tables: dict[str, dict[bytes, bytes]]) -> None:
        """Atomic; a kill inside its sync leaves it in the page cache, or leaves nothing."""
        disk = Disk.now
        if disk.dies_at("lmdb_commit"):
            if disk.dice.chance(0.5):
                self.tables.now = tables
            raise Killed
        self.tables.now = self.tables.durable = tables

    def sync(self, force: bool = False) -> None:
        self.tables.durable = self.tables.now

    def copyfd(self, fd: int, compact: bool = False) -> None:
        """The tables themselves, closed by their CRC."""
        body = msgspec.msgpack.encode(self.tables.now)
        data = MAGIC + bytes(8) + zlib.crc32(body).to_bytes(4, "little") + body
        try:
            while data:
                data = data[os.write(fd, data) :]
        except OSError as error:  # the reader was killed
            raise lmdb.Error(str(error)) from error

    def info(self) -> dict[str, int]:
        size = sum(len(k) + len(v) for table in self.tables.now.values() for k, v in table.items())
        return {"last_pgno": size // PAGE_BYTES + 2}

    def stat(self) -> dict[str, int]:
        return {"psize": PAGE_BYTES}

    def reader_check(self) -> int:
        return 0

    def close(self) -> None:
        pass


def open_environment(
    path: Path, *, readonly: bool = False, create: bool = True, subdir: bool = True, **_: Any
) -> SimEnvironment:
    """As ``environment.open_environment``."""
    file = path / DATA_FILE if subdir else path
    if not file.exists():
        if readonly or not create:
            raise Unreachable(f"open the LMDB environment {path}", "it is not there")
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(file, Disk.now.environments, Tables())
    environment = SimEnvironment(file, readonly=readonly)
    if not readonly and Disk.opening_syncs:
        environment.sync()
    return environment


def damage_of(path: Path) -> list[str]:
    """As ``environment.damage_of``."""
    try:
        SimEnvironment(path, readonly=True)
    except StateCorrupt as error:
        return [error.why]
    return []


def _loaded(data: bytes, file: Path) -> Tables:
    crc, body = int.from_bytes(data[:4], "little"), data[4:]
    if zlib.crc32(body) != crc:
        raise StateCorrupt(f"open the LMDB environment {file}", "it is damaged")
    tables = msgspec.msgpack.decode(body, type=dict[str, dict[bytes, bytes]])
    return Tables(tables, tables)


def _write(file: Path, environments: dict[int, Tables], tables: Tables) -> None:
    token = next(_tokens)
    environments[token] = tables
    file.write_bytes(MAGIC + token.to_bytes(8, "little") + bytes(4))
