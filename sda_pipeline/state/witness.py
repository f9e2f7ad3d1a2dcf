"""A second witness of a SQLite store's rows, kept in the transaction that changes them. Not what a
difference means (``runtime/audit_*.py``).

Of each table (or a part of it) the number of rows and the sum of their CRCs: a row that is gone, or
was written by hand with its CRC, shows, also where nothing else repeats what the row says.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping

from sda_pipeline.state.row_crc import check_row, row_crc

SCHEMA = """CREATE TABLE witness(
        name TEXT PRIMARY KEY, count INTEGER NOT NULL, sum INTEGER NOT NULL,
        crc INTEGER NOT NULL)"""
SINCE = 2  # format version of both stores; those of version 1 have no such table

Sums = dict[str, tuple[int, int]]  # rows, sum of their CRCs


def sums_of(table: str, where: str = "TRUE") -> str:
    """The query that finds what the witness of a table must say."""
    return f"SELECT count(*), coalesce(sum(crc), 0) FROM {table} WHERE {where}"  # noqa: S608


class Witness:
    """What the open store says of itself; ``queries`` by name."""

    def __init__(self, db: sqlite3.Connection, queries: Mapping[str, str]) -> None:
        self._db, self._queries = db, queries
        self.sums: Sums = {}
        self._changed: set[str] = set()

    def begin(self) -> None:
        """Say what is there: of a store that is new, or comes from format version 1."""
        self.sums = found(self._db, self._queries)
        self._changed = {*self.sums}
        self.store()

    def load(self) -> None:
        """Take up what was committed; StateCorrupt when a line of it is damaged."""
        self.sums, self._changed = read(self._db), set()

    def restore(self, sums: Sums) -> None:
        """The transaction was rolled back: what was changed in it never was."""
        self.sums = sums
        self._changed.clear()

    def add(self, name: str, crc: int) -> None:
        count, total = self.sums.get(name, (0, 0))
        self.set(name, count + 1, total + crc)

    def remove(self, name: str, crcs: Iterable[int]) -> None:
        for crc in crcs:
            count, total = self.sums.get(name, (0, 0))
            self.set(name, count - 1, total - crc)

    def set(self, name: str, count: int, total: int) -> None:
        self.sums[name] = count, total
        self._changed.add(name)

    def store(self) -> None:
        """Write what has changed. Inside a transaction."""
        for name in sorted(self._changed):
            row = (name, *self.sums[name])
            values = (*row, row_crc(*row))
            self._db.execute("INSERT OR REPLACE INTO witness VALUES(?, ?, ?, ?)", values)
        self._changed.clear()


def found(db: sqlite3.Connection, queries: Mapping[str, str]) -> Sums:
    """What a witness would say of the rows that are there."""
    return {name: db.execute(query).fetchone() for name, query in queries.items()}


def read(db: sqlite3.Connection) -> Sums:
    """What the witness says; StateCorrupt when a line of it is damaged."""
    sums: Sums = {}
    for *row, crc in db.execute("SELECT name, count, sum, crc FROM witness"):
        check_row(f"the witness of {row[0]}", crc, *row)
        sums[row[0]] = row[1], row[2]
    return sums


def differences(db: sqlite3.Connection, queries: Mapping[str, str]) -> Iterator[str]:
    """Where rows are not as they were committed, beginning with the table. Nothing of a store of
    format version 1.
    """
    if db.execute("PRAGMA user_version").fetchone()[0] < SINCE:
        return
    told, there = read(db), found(db, queries)
    for name in queries:
        was, own = told.get(name), there[name]
        if was is None:
            yield f"{name}: its witness is missing"
        elif was[0] != own[0]:
            yield f"{name}: {own[0]} rows are there, {was[0]} were committed"
        elif was != own:
            yield f"{name}: its rows are not those that were committed"
