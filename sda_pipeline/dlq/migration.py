"""Rewriting old DLQ files so that every entry is of the newest schema version. No running pipeline.

The files and their high-water marks must speak of each other at any moment, and marks speak of the
newest file by its length. So the newest file is never rewritten: a new, empty one is begun behind
it, and the marks moved there; then it is an old one. An old one is replaced whole, by rename. A
kill leaves each file old or new, and a second run does the rest.

Lines nobody can read (damaged, or of an unknown version) are copied byte for byte: moving damaged
ones aside is the dlq-sink's, whose sources then send their rejects again.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from sda_pipeline import failpoints
from sda_pipeline.dlq.entry import SCHEMA_VERSION, EntryError, decode_line, encode_line
from sda_pipeline.dlq.files import DlqFiles, jsonl_files
from sda_pipeline.errors import Unreachable

_TEMPORARY = ".migrating"


class Found(NamedTuple):
    """What a file's lines are."""

    path: Path
    old: int  # of an older version: to be rewritten
    newest: int
    unknown: Counter[int]  # lines by version that nobody knows
    damaged: int


def look(directory: Path) -> list[Found]:
    """Every file of the DLQ, oldest first. Changes nothing."""
    return [_look_at(path) for path in jsonl_files(directory)]


def _look_at(path: Path) -> Found:
    old = newest = damaged = 0
    unknown: Counter[int] = Counter()
    with path.open("rb") as file:
        for line in file:
            try:
                version = decode_line(line).schema_version
            except EntryError as error:
                if error.version is None:
                    damaged += 1
                else:
                    unknown[error.version] += 1
                continue
            old, newest = old + (version != SCHEMA_VERSION), newest + (version == SCHEMA_VERSION)
    return Found(path, old, newest, unknown, damaged)


def migrate(
    directory: Path, now_ns: int, report: Callable[[str], None] = lambda _: None
) -> Iterator[Found]:
    """Rewrite what is old, file by file; yields each that was, as it was before.

    ``report`` hears what was mended on the way. The caller holds the lock of the state directory:
    no dlq-sink may run. Errors as ``DlqFiles``.
    """
    for leftover in directory.glob(f"*{_TEMPORARY}"):
        leftover.unlink()
    found = [file for file in look(directory) if file.old]
    if not found:
        return
    # 1 a torn line is cut, a new file begun if the newest is old, and the marks moved to it
    with DlqFiles(directory, repair=False) as files:
        for fault in files.faults:
            report(fault)
        if found[-1].path == jsonl_files(directory)[-1]:
            files.begin_next(now_ns)
    failpoints.hit("reprocess-migrate.after_rotate")
    for file in found:
        _rewrite(file.path)
        yield file


def _rewrite(path: Path) -> None:
    """Steps 2 to 4: the file whole under another name, synced, then in place of the old one."""
    aside = path.with_name(path.name + _TEMPORARY)
    try:
        # 2 write it aside
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as out, path.open("rb") as file:
            out.writelines(map(_renewed, file))
            out.flush()
            failpoints.hit("reprocess-migrate.after_write")
            # 3 sync; only then may it take the old one's place
            os.fsync(out.fileno())
        failpoints.hit("reprocess-migrate.after_sync")
        # 4 replace, and sync the directory
        aside.replace(path)
        failpoints.hit("reprocess-migrate.after_rename")
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        hint = "nothing is changed in it; free some space and run it again"
        raise Unreachable(f"rewrite {path}", error.strerror or str(error), hint) from error


def _renewed(line: bytes) -> bytes:
    """The line in the newest version; itself when it cannot be read or is new already."""
    try:
        entry = decode_line(line)
    except EntryError:
        return line
    return line if entry.schema_version == SCHEMA_VERSION else encode_line(entry)
