"""Reading the DLQ's files: their entries, and the high-water marks as a start would find them.

Works beside the writer and changes nothing; writing and repair are ``files.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from sda_pipeline.dlq.entry import Entry, EntryError, decode_line
from sda_pipeline.dlq.marks import NOTHING, Mark, written
from sda_pipeline.durable_file import read_sealed
from sda_pipeline.errors import InvalidConfiguration

POS_NAME = "high-water.pos"
POS_FORMAT = 1
ENTRIES_PER_BEAT = 1000  # some milliseconds; who reads everything must be seen to live
_NAME = re.compile(r"\d{4}-\d\d-\d\d-\d+\.jsonl")


class Skipped(NamedTuple):
    """A line the reader could not read; never guessed, always reported."""

    file: str
    line: int
    why: str
    version: int | None = None  # the schema version nobody knows; None: damaged


class Pos(msgspec.Struct):
    """The marks' file. Files before ``oldest`` are expired: deleted, or about to be."""

    format: int
    file: str  # "" before the first
    length: int  # bytes of ``file`` that the marks speak of
    marks: dict[str, Mark]
    oldest: str = ""


class _Format(msgspec.Struct):
    """What the marks' file of any release says of itself."""

    format: int


class Derived(NamedTuple):
    """Marks as the files tell them, and what was odd about them."""

    marks: dict[str, Mark]
    faults: list[str]
    first_unsynced: str  # files from this name on may be in the page cache only
    oldest: str  # see ``Pos``


def jsonl_files(directory: Path) -> list[Path]:
    """The DLQ's files, oldest first; files of other names are not ours."""
    found = [path for path in directory.glob("*.jsonl") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: order_of(path.name))


def order_of(name: str) -> tuple[str, int]:
    """By which files are older or newer: date and number."""
    date, _, number = name.removesuffix(".jsonl").rpartition("-")
    return date, int(number)


def read_entries(
    directory: Path, report: Callable[[Skipped], None] | None = None, *, oldest: str = ""
) -> Iterator[Entry]:
    """Every entry, oldest first; unreadable lines go to ``report``. Works beside a running writer.

    A last line without its newline is being written and is left out; so is a file that expires.
    ``oldest`` names the file to begin with.
    """
    for path in jsonl_files(directory):
        if oldest and order_of(path.name) < order_of(oldest):
            continue
        try:
            file = path.open("rb")
        except FileNotFoundError:  # it expired meanwhile
            continue
        with file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    yield decode_line(line)
                except EntryError as error:
                    if report is not None:
                        report(Skipped(path.name, number, error.why, error.version))


def read_marks(directory: Path) -> dict[str, Mark]:
    """The marks by source as a start now would find them. Changes nothing."""
    return derive(directory).marks


def derive(directory: Path) -> Derived:
    """The stored marks, moved on by the lines beyond what they speak of. Changes nothing."""
    faults: list[str] = []
    pos = _load_pos(directory / POS_NAME, faults)  # first: a writer may begin another file now
    files = jsonl_files(directory)
    sizes = {path.name: path.stat().st_size for path in files}
    if pos is not None and pos.file and sizes.get(pos.file, -1) < pos.length:
        faults.append(f"{pos.file} is shorter than {POS_NAME} says; marks are read from the files")
        pos = None
    if pos is None:
        pos = Pos(POS_FORMAT, "", 0, {})
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
    return Derived(marks, faults, pos.file, pos.oldest)


def _load_pos(path: Path, faults: list[str]) -> Pos | None:
    if not path.exists():
        return None
    try:
        body = read_sealed(path)
        version = msgspec.json.decode(body, type=_Format).format
        if version == POS_FORMAT:
            return msgspec.json.decode(body, type=Pos)
    except (ValueError, msgspec.MsgspecError) as error:
        faults.append(f"{path.name}: {error}; marks are read from the files")
        return None
    raise InvalidConfiguration(
        f"open {path}",
        [f"it has format version {version}, this release reads {POS_FORMAT}"],
        "use the release that wrote it",
    )
