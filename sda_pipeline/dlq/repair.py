"""Damaged lines of the DLQ's files: found at every start by their CRC, moved aside, and the marks
set back below them, so that the sources send the rejects again. Not the order of these steps
(``files.py``), nor a torn last line.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from sda_pipeline.dlq.entry import EntryError, decode_line, is_whole
from sda_pipeline.dlq.marks import NO_INDEX, NOTHING, Mark


class Damaged(NamedTuple):
    """A file with damaged lines, which are numbered from 1."""

    path: Path
    lines: list[int]
    size: int  # bytes of the other lines


def damaged_files(files: Iterable[Path]) -> list[Damaged]:
    """The files that hold lines which are not what was written."""
    found = []
    for path in files:
        lines, size = [], 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if is_whole(line):
                    size += len(line)
                else:
                    lines.append(number)
        if lines:
            found.append(Damaged(path, lines, size))
    return found


def set_back(
    marks: Mapping[str, Mark], files: Iterable[Path], damaged: Iterable[Damaged]
) -> dict[str, Mark]:
    """The marks below the first damaged line, which may have been of any source.

    ``again`` tells up to where lines may come a second time: those are known by ``dlq_id``.
    """
    bad = {each.path: {*each.lines} for each in damaged}
    standing, lowest = dict[str, tuple[int, int]](), dict[str, tuple[int, int]]()
    held, seen = Counter[str](), False
    for path in files:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if number in bad.get(path, ()):
                    lowest = lowest if seen else dict(standing)
                    seen = True
                    continue
                try:
                    entry = decode_line(line)
                    standing[entry.operator] = int(entry.log_id, 16), entry.log_position
                except (EntryError, ValueError):  # of a newer release
                    continue
                held[entry.operator] += 1
    return {
        source: _below(marks.get(source, NOTHING), lowest.get(source, (0, 0)), held[source])
        for source in {*marks, *held}
    }


def _below(mark: Mark, standing: tuple[int, int], held: int) -> Mark:
    """The mark set back to before where the last whole line stands."""
    log_id, position = standing
    below = max(0, position - 1) if log_id == mark.log_id else 0
    return msgspec.structs.replace(
        mark, position=min(below, mark.done), index=NO_INDEX, complete=True,
        entries=held + mark.expired, again=max(mark.again, mark.position),
        reaches=(),  # they spoke of what was damaged too
    )  # fmt: skip


def keep_aside(found: Damaged) -> Path:
    """Copy the damaged lines into a file of their own, synced; returns it."""
    number = 1
    while (aside := found.path.with_name(f"{found.path.name}.damaged-{number}")).exists():
        number += 1
    lines = found.path.read_bytes().splitlines(keepends=True)
    _write(aside, (lines[number - 1] for number in found.lines))
    return aside


def take_out(found: Damaged) -> None:
    """Replace the file by one without its damaged lines: temporary file, sync, rename."""
    temporary = found.path.with_suffix(".tmp")
    lines = found.path.read_bytes().splitlines(keepends=True)
    bad = {*found.lines}
    _write(temporary, (line for number, line in enumerate(lines, 1) if number not in bad))
    temporary.replace(found.path)


def _write(path: Path, lines: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        path.chmod(0o600)
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
