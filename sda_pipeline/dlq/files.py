"""The DLQ's files: JSON Lines by UTC date, their high-water marks, and their reader. No decisions.

``<date>-<n>.jsonl`` grows by whole batches, each synced; then ``high-water.pos`` (marks by source,
and the length of the files they speak of) is replaced. A kill between the two is repaired on open
from the lines beyond that length.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from sda_pipeline.dlq.entry import Entry, EntryError, decode_line, encode_line
from sda_pipeline.dlq.marks import NOTHING, Mark, written
from sda_pipeline.errors import InvalidConfiguration, StateCorrupt, Unreachable
from sda_pipeline.limits import DLQ_FILE_BYTES, DLQ_RETENTION_S, SECOND_NS

POS_NAME = "high-water.pos"
POS_FORMAT = 1
_NAME = re.compile(r"\d{4}-\d\d-\d\d-\d+\.jsonl")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Skipped(NamedTuple):
    """A line the reader could not read; never guessed, always reported."""

    file: str
    line: int
    why: str


class _Pos(msgspec.Struct):
    format: int
    file: str  # "" before the first
    length: int  # bytes of ``file`` that the marks speak of
    marks: dict[str, Mark]


class _Derived(NamedTuple):
    """Marks as the files tell them, and what was odd about them."""

    marks: dict[str, Mark]
    faults: list[str]
    first_unsynced: str  # files from this name on may be in the page cache only


def jsonl_files(directory: Path) -> list[Path]:
    """The DLQ's files, oldest first; files of other names are not ours."""
    found = [path for path in directory.glob("*.jsonl") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: _order(path.name))


def _order(name: str) -> tuple[str, int]:
    date, _, number = name.removesuffix(".jsonl").rpartition("-")
    return date, int(number)


def read_entries(
    directory: Path, report: Callable[[Skipped], None] | None = None
) -> Iterator[Entry]:
    """Every entry, oldest first; unreadable lines go to ``report``. Works beside a running writer.

    A last line without its newline is being written and is left out.
    """
    for path in jsonl_files(directory):
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    yield decode_line(line)
                except EntryError as error:
                    if report is not None:
                        report(Skipped(path.name, number, error.why))


def read_marks(directory: Path) -> dict[str, Mark]:
    """The marks by source as a start now would find them, for audit. Changes nothing."""
    return _derive(directory).marks


def _derive(directory: Path) -> _Derived:
    """The stored marks, moved on by the lines beyond what they speak of."""
    faults: list[str] = []
    files = jsonl_files(directory)
    pos = _load_pos(directory / POS_NAME, faults)
    sizes = {path.name: path.stat().st_size for path in files}
    if pos is not None and pos.file and sizes.get(pos.file, -1) < pos.length:
        faults.append(f"{pos.file} is shorter than {POS_NAME} says; marks are read from the files")
        pos = None
    if pos is None:
        pos = _Pos(POS_FORMAT, "", 0, {})
    marks = dict(pos.marks)
    at = [path.name for path in files].index(pos.file) if pos.file else 0
    for path in files[at:]:
        with path.open("rb") as file:
            file.seek(pos.length if path.name == pos.file else 0)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = decode_line(line)
                    log_id = int(entry.log_id, 16)
                except (EntryError, ValueError) as error:
                    faults.append(f"{path.name}: {error}")
                    continue
                mark = marks.get(entry.operator, NOTHING)
                marks[entry.operator] = written(mark, log_id, entry.log_position, entry.index)
    return _Derived(marks, faults, pos.file)


def _load_pos(path: Path, faults: list[str]) -> _Pos | None:
    if not path.exists():
        return None
    body, _, crc = path.read_bytes().rstrip().rpartition(b"\n")
    try:
        if int(crc, 16) != zlib.crc32(body):
            raise ValueError("its CRC is wrong")
        found = msgspec.json.decode(body, type=_Pos)
    except (ValueError, msgspec.MsgspecError) as error:
        faults.append(f"{path.name}: {error}; marks are read from the files")
        return None
    if found.format != POS_FORMAT:
        raise InvalidConfiguration(
            f"open {path}",
            [f"it has format version {found.format}, this release reads {POS_FORMAT}"],
            "use the release that wrote it",
        )
    return found


class DlqFiles:
    """The one writer. ``marks`` are durable; ``faults`` tells what opening found and repaired."""

    def __init__(self, directory: Path) -> None:
        """Open: cut a torn last line, sync what was found, bring the marks up to date.

        Unreachable when the directory cannot be used.
        """
        self.directory = directory
        self._file = -1
        self._name, self._size, self._expired = "", 0, ""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            self.close()
            hint = "check that the directory is yours and has space"
            raise Unreachable(f"open the DLQ in {directory}", str(error), hint) from error

    def _open(self) -> None:
        files = jsonl_files(self.directory)
        self.faults = [_cut_torn_line(files[-1])] if files else []
        derived = _derive(self.directory)
        self.faults = [fault for fault in (*self.faults, *derived.faults) if fault]
        self.marks = derived.marks
        names = [path.name for path in files]
        start = names.index(derived.first_unsynced) if derived.first_unsynced else 0
        for path in files[start:]:
            _sync(path)
        if files:
            self._use(files[-1])
        self.store_marks({})

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
        last = _order(self._name) if self._name else ("", 0)
        date, number = max(last, (date, 0))
        if self._file >= 0:
            self._fdatasync()
            os.close(self._file)
        self._use(self.directory / f"{date}-{number + 1}.jsonl")
        _sync(self.directory)

    def sync(self, marks: Mapping[str, Mark]) -> None:
        """Make what was appended durable, then the marks that speak of it."""
        if self._file >= 0:
            self._fdatasync()
        self.store_marks(marks)

    def _fdatasync(self) -> None:
        try:
            os.fdatasync(self._file)
        except OSError as error:  # the page cache lies after a failed sync: never go on
            raise StateCorrupt(f"sync {self._name}", str(error), "check the disk") from error

    def store_marks(self, marks: Mapping[str, Mark]) -> None:
        """Replace the marks' file: temporary file, sync, rename, sync of the directory."""
        self.marks.update(marks)
        body = msgspec.json.encode(_Pos(POS_FORMAT, self._name, self._size, self.marks))
        path = self.directory / POS_NAME
        temporary = path.with_suffix(".tmp")
        try:
            temporary.write_bytes(b"%b\n%08x\n" % (body, zlib.crc32(body)))
            _sync(temporary)
            temporary.replace(path)
            _sync(self.directory)
        except OSError as error:
            raise Unreachable(f"write {path}", str(error), "check space and permissions") from error

    def known_ids(self, operator: str) -> frozenset[str]:
        """Every ``dlq_id`` the files hold of an operator: reads them all."""
        return frozenset(e.dlq_id for e in read_entries(self.directory) if e.operator == operator)

    def expire(self, now_ns: int) -> list[str]:
        """Delete files older than the retention, once a day; returns the names of those deleted."""
        today = _date(now_ns)
        if today == self._expired:
            return []
        self._expired = today
        oldest = _date(now_ns - round(DLQ_RETENTION_S * SECOND_NS))
        gone = [
            path
            for path in jsonl_files(self.directory)
            if path.name[: len(oldest)] < oldest and path.name != self._name
        ]
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


def _cut_torn_line(path: Path) -> str:
    """Cut what stands after the last newline; says what was cut, or ""."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole == len(data):
        return ""
    os.truncate(path, whole)
    return f"{path.name}: a torn last line of {len(data) - whole} bytes was cut"


def _date(now_ns: int) -> str:
    """UTC date, YYYY-MM-DD."""
    return (_EPOCH + timedelta(seconds=now_ns // SECOND_NS)).date().isoformat()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
