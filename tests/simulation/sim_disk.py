"""What survives: files on a tmpfs and databases in memory; of each it is known what is not synced.

A kill loses nothing that was written (the page cache outlives the process) but may tear the write
it interrupts. A power loss takes from every store any part of what was not synced. SQLite and LMDB
are images here; logs, DLQ and snapshots are real files of the real classes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sda_pipeline.dlq.entry import Entry
from sda_pipeline.dlq.files import DlqFiles, jsonl_files
from sda_pipeline.dlq.marks import Mark
from sda_pipeline.log.source_log import LogStart, SourceLog
from sda_pipeline.records.frames import Header
from sda_pipeline.state.environment import DATA_FILE
from tests.simulation.dice import Dice
from tests.simulation.fibers import Killed

MAGIC = b"SIMLMDB\n"  # then the token of its tables, or 0, a CRC and the tables themselves
TMPFS = Path("/dev/shm")
SEGMENT_BYTES = 4 * 1024  # small, so that logs roll and segments are deleted


@dataclass
class Database:
    """One SQLite file: its pages live in an in-memory connection that outlives its users."""

    connection: sqlite3.Connection
    unsynced_before: bytes | None = None  # the image below a commit that is in the page cache only


@dataclass
class Tables:
    """One LMDB file: key to value by database name; ``durable`` is what a power loss leaves."""

    now: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    durable: dict[str, dict[bytes, bytes]] = field(default_factory=dict)


class Host(Protocol):
    """The world, as its disk meets it."""

    running: Any  # the operator whose step runs, None outside of one

    def dies_at(self, point: str) -> bool:
        """Whether the running operator dies here."""


class Disk:
    """The disk of the schedule that runs, reached by the doubles through ``Disk.now``."""

    now: Disk
    opening_syncs = log_syncs = True  # off in the controls

    def __init__(self, host: Host, dice: Dice) -> None:
        base = TMPFS if TMPFS.is_dir() else None
        self.root = Path(tempfile.mkdtemp(prefix="sda-simulation-", dir=base))
        self.host, self.dice = host, dice
        self.dies_at = host.dies_at
        self.databases: dict[Path, Database] = {}
        self.environments: dict[int, Tables] = {}  # by the token in their file
        self.unsynced: dict[Path, int] = {}  # file -> bytes of it that are on the platter
        self.logged: dict[str, tuple[Header, bytes]] = {}  # last synced frame by log directory
        Disk.now = self

    def power_loss(self) -> None:
        """Lose any part of what was not synced."""
        for path, kept in self.unsynced.items():
            size = path.stat().st_size
            cut = self.dice.between(kept, size)
            os.truncate(path, cut)
            if self.dice.chance(0.3):  # the new length reached the disk, the data did not
                os.truncate(path, self.dice.between(cut, size))
        self.unsynced.clear()
        for database in self.databases.values():
            if database.unsynced_before is not None and self.dice.chance(0.7):
                database.connection.deserialize(database.unsynced_before)
            database.unsynced_before = None
        for tables in self.environments.values():
            if self.dice.chance(0.7):
                tables.now = tables.durable
            tables.durable = tables.now

    def tear(self, path: Path, before: int) -> None:
        """Die inside the write that made ``path`` longer than ``before``: any part of it stays."""
        os.truncate(path, self.dice.between(before, path.stat().st_size))
        raise Killed

    def environment_at(self, directory: Path) -> Tables | None:
        """The tables of the environment in a directory."""
        file = directory / DATA_FILE
        return self.environments.get(token_of(file.read_bytes())) if file.exists() else None

    def forget(self) -> None:
        """The schedule is over."""
        for database in self.databases.values():
            database.connection.close()
        self._close_files()
        shutil.rmtree(self.root, ignore_errors=True)

    def _close_files(self) -> None:
        """What killed lives left open: the kernel closes a process's files, here nobody does."""
        for link in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if link.readlink().is_relative_to(self.root):
                    os.close(int(link.name))


def token_of(data: bytes) -> int:
    """Which tables an environment's file stands for; 0 for a copy that holds its own."""
    return int.from_bytes(data[len(MAGIC) : len(MAGIC) + 8], "little")


class SimSourceLog(SourceLog):
    """The real log; what it has written and not synced is known to the disk."""

    @classmethod
    def open(  # type: ignore[override]
        cls,
        directory: Path,
        source: int,
        start: LogStart | None,
        *,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> SourceLog:
        log = super().open(directory, source, start, segment_bytes=segment_bytes)
        assert isinstance(log, SimSourceLog)
        last = log.last()
        if last is not None:
            log._newest = last.header, bytes(last.payload)
            if Disk.opening_syncs:
                log._note_synced()
        return log

    @property
    def _path(self) -> Path:
        return self._segments[-1].path

    def append(self, header: Header, payload: bytes, rejects: bytes) -> None:
        super().append(header, payload, rejects)
        disk, before = Disk.now, self._active.offsets[-1]
        disk.unsynced.setdefault(self._path, before)
        self._newest = header, payload
        if disk.dies_at("log_write"):
            disk.tear(self._path, before)

    def sync(self) -> None:
        super().sync()
        if Disk.log_syncs:
            self._note_synced()

    def _note_synced(self) -> None:
        Disk.now.unsynced.pop(self._path, None)
        Disk.now.logged[self.directory.name] = self._newest


class SimDlqFiles(DlqFiles):
    """The real DLQ files; the same."""

    def __init__(self, directory: Path, hit: Callable[[str], None]) -> None:
        super().__init__(directory, hit)
        for path in jsonl_files(directory) if Disk.opening_syncs else ():
            Disk.now.unsynced.pop(path, None)

    @property
    def _path(self) -> Path:
        return self.directory / self._name

    def append(self, entries: Sequence[Entry], now_ns: int) -> None:
        size, name = self._size, self._name
        super().append(entries, now_ns)
        if not entries:
            return
        before = size if name == self._name else 0
        Disk.now.unsynced.setdefault(self._path, before)
        if Disk.now.dies_at("dlq_write"):
            Disk.now.tear(self._path, before)

    def _fdatasync(self) -> None:
        super()._fdatasync()
        Disk.now.unsynced.pop(self._path, None)

    def store_marks(self, marks: Mapping[str, Mark]) -> None:
        if Disk.now.dies_at("dlq_marks"):
            raise Killed
        super().store_marks(marks)
