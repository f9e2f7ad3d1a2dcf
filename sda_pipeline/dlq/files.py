"""The DLQ's files: JSON Lines by UTC date, and their high-water marks. No decisions; reading them
is ``reading.py``.

``<date>-<n>.jsonl`` grows by whole batches, each synced; then ``high-water.pos`` (marks by source,
and the length of the files they speak of) is replaced. A kill between the two is repaired on open
from the lines beyond that length.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import msgspec

from sda_pipeline import failpoints
from sda_pipeline.dlq.entry import Entry, encode_line
from sda_pipeline.dlq.marks import Mark
from sda_pipeline.dlq.reading import (
    ENTRIES_PER_BEAT,
    POS_FORMAT,
    POS_NAME,
    Pos,
    Skipped,
    derive,
    jsonl_files,
    order_of,
    read_entries,
    read_marks,
)
from sda_pipeline.dlq.repair import damaged_files, keep_aside, set_back, take_out
from sda_pipeline.durable_file import sealed
from sda_pipeline.errors import Unreachable
from sda_pipeline.limits import DLQ_FILE_BYTES, DLQ_RETENTION_S, SECOND_NS

__all__ = ["POS_NAME", "DlqFiles", "Skipped", "jsonl_files", "read_entries", "read_marks"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DlqFiles:
    """The one writer. ``marks`` are durable; ``faults`` tells what opening found and repaired."""

    def __init__(
        self, directory: Path, hit: Callable[[str], None] = lambda _: None, *, repair: bool = True
    ) -> None:
        """Open: cut a torn last line, sync what was found, bring the marks up to date.

        ``hit`` is called with the name of each step's failpoint. ``repair``: also move damaged
        lines aside, for whoever is there to send their rejects again. Unreachable when the
        directory cannot be used.
        """
        self.directory = directory
        self._file = -1
        self._name, self._size, self._expired = "", 0, ""
        self._oldest = ""  # what lies before this file is expired
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open(hit, repair=repair)
        except OSError as error:
            self.close()
            hint = "check that the directory is yours and has space"
            raise Unreachable(f"open the DLQ in {directory}", str(error), hint) from error

    def _open(self, hit: Callable[[str], None], *, repair: bool) -> None:
        files = jsonl_files(self.directory)
        self.faults = [_cut_torn_line(files[-1])] if files else []
        hit("recovery_cut")
        derived = derive(self.directory)
        self.faults = [fault for fault in (*self.faults, *derived.faults) if fault]
        self.marks, self._oldest = derived.marks, derived.oldest
        names = [path.name for path in files]
        start = names.index(derived.first_unsynced) if derived.first_unsynced else 0
        for path in files[start:]:
            _sync(path)
        if repair:
            self._repair(files, hit)
        if files:
            self._use(files[-1])
        hit("recovery_synced")
        self.store_marks({})

    def _repair(self, files: list[Path], hit: Callable[[str], None]) -> None:
        """Move damaged lines aside and have their rejects sent again. After a kill in between the
        damage is found again.
        """
        files = [path for path in files if not self._is_expired(path)]
        damaged = damaged_files(files)
        if not damaged:
            return
        # 1 the damaged lines into a file of their own
        for found in damaged:
            where = f"{found.path.name} line {', '.join(map(str, found.lines))}"
            aside = keep_aside(found)
            self.faults.append(f"{where}: its CRC is wrong; it was moved to {aside.name}")
        _sync(self.directory)
        hit("recovery_damage_aside")
        # 2 marks below the damage; they speak of the files as step 3 leaves them
        newest = files[-1]
        self._name = newest.name
        self._size = {found.path: found.size for found in damaged}.get(newest, _size(newest))
        self.store_marks(set_back(self.marks, files, damaged))
        hit("recovery_damage_marks")
        # 3 the files without the damaged lines
        for found in damaged:
            take_out(found)
        _sync(self.directory)
        hit("recovery_damage_gone")

    def _is_expired(self, path: Path) -> bool:
        return bool(self._oldest) and order_of(path.name) < order_of(self._oldest)

    def _use(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._name, self._size = path.name, os.fstat(self._file).st_size

    def append(self, entries: Sequence[Entry], now_ns: int) -> None:
        """Write the entries' lines, in one file; not durable before ``sync``."""
        if not entries:
            return
        data = b"".join(map(encode_line, entries))
        date = _date(now_ns)
        if not self._name or date > self._name[: len(date)] or self._full(len(data)):
            self._rotate(date)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            hint = "free some space; the torn line is cut on the next start"
            raise Unreachable(f"write {self._name}", str(error), hint) from error
        self._size += len(data)

    def _full(self, more: int) -> bool:
        return self._size > 0 and self._size + more > DLQ_FILE_BYTES

    def _rotate(self, date: str) -> None:
        """The next file of the day; the clock going back never goes back to an older file."""
        last = order_of(self._name) if self._name else ("", 0)
        date, number = max(last, (date, 0))
        if self._file >= 0:
            self._fdatasync()
            os.close(self._file)
        self._use(self.directory / f"{date}-{number + 1}.jsonl")
        _sync(self.directory)

    def begin_next(self, now_ns: int) -> None:
        """Begin a new file, durably: what was the newest is an old one, which nobody appends to."""
        self._rotate(_date(now_ns))
        failpoints.hit("reprocess-migrate.inside_rotate")
        self.store_marks({})

    def sync(self, marks: Mapping[str, Mark]) -> None:
        """Make what was appended durable, then the marks that speak of it."""
        if self._file >= 0:
            self._fdatasync()
        self.store_marks(marks)

    def _fdatasync(self) -> None:
        try:
            os.fdatasync(self._file)
        except OSError as error:  # the page cache lies after a failed sync: never go on
            action, why = f"sync {self._name}", error.strerror or str(error)
            raise Unreachable(action, why, "check the disk, then start again") from error

    def store_marks(self, marks: Mapping[str, Mark]) -> None:
        """Replace the marks' file: temporary file, sync, rename, sync of the directory."""
        self.marks.update(marks)
        body = msgspec.json.encode(
            Pos(POS_FORMAT, self._name, self._size, self.marks, self._oldest)
        )
        path = self.directory / POS_NAME
        temporary = path.with_suffix(".tmp")
        try:
            temporary.write_bytes(sealed(body))
            _sync(temporary)
            temporary.replace(path)
            _sync(self.directory)
        except OSError as error:
            raise Unreachable(f"write {path}", str(error), "check space and permissions") from error

    def known_ids(self, operator: str, beat: Callable[[], None]) -> set[str]:
        """Every ``dlq_id`` the files hold of an operator: reads them all, calling ``beat`` as it
        goes.
        """
        known = set()
        for number, entry in enumerate(read_entries(self.directory)):
            if number % ENTRIES_PER_BEAT == 0:
                beat()
            if entry.operator == operator:
                known.add(entry.dlq_id)
        return known

    def expire(self, now_ns: int) -> list[str]:
        """Delete files older than the retention, once a day; returns the names of those deleted."""
        today = _date(now_ns)
        if today == self._expired:
            return []
        self._expired = today
        oldest = _date(now_ns - round(DLQ_RETENTION_S * SECOND_NS))
        kept = [
            path
            for path in jsonl_files(self.directory)
            if path.name[: len(oldest)] >= oldest or path.name == self._name
        ]
        gone = [path for path in jsonl_files(self.directory) if path not in kept]
        # Counted and told before they go, so that an audit knows what it need not find.
        told = order_of(self._oldest) if self._oldest else ("", 0)
        fresh = [path for path in gone if order_of(path.name) >= told]
        if fresh and kept:
            self._oldest = kept[0].name
            self.store_marks(_with_expired(self.marks, fresh))
        for path in gone:
            path.unlink()
        return [path.name for path in gone]

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _with_expired(marks: Mapping[str, Mark], gone: Sequence[Path]) -> dict[str, Mark]:
    """The marks once these files are no more; a line names its operator once, unescaped."""
    counts = dict.fromkeys(marks, 0)
    for path in gone:
        data = path.read_bytes()
        for source in counts:
            counts[source] += data.count(b',"operator":%b,' % msgspec.json.encode(source))
    return {
        source: msgspec.structs.replace(mark, expired=mark.expired + counts[source])
        for source, mark in marks.items()
    }


def _cut_torn_line(path: Path) -> str:
    """Cut what stands after the last newline; says what was cut, or ""."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole == len(data):
        return ""
    os.truncate(path, whole)
    return f"{path.name}: a torn last line of {len(data) - whole} bytes was cut"


def _size(path: Path) -> int:
    return path.stat().st_size


def _date(now_ns: int) -> str:
    """UTC date, YYYY-MM-DD."""
    return (_EPOCH + timedelta(seconds=now_ns // SECOND_NS)).date().isoformat()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
