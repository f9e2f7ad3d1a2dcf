"""Reading a source log by position, by its writer or by an audit beside it.

Changes nothing on disk; repair and writing are the writer's (``source_log.py``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sda_pipeline.errors import Unreachable
from sda_pipeline.log import scanning, segments
from sda_pipeline.log.scanning import Index, Scan
from sda_pipeline.log.segments import Record, Segment

INDEXES_KEPT = 4  # of finished segments; one costs 9 bytes a record
LIST_ATTEMPTS = 5  # a segment may be deleted between the listing and the reading of its header


class LogView:
    """Reading a source log by position. ``end`` is ``first - 1`` while it is empty."""

    def __init__(self, directory: Path, found: list[Segment]) -> None:
        self.directory = directory
        self._segments = found
        self._indexes: dict[int, Index] = {}
        self.log_id = found[-1].header.log_id if found else 0
        self.source = found[-1].header.source if found else 0
        self.first = found[0].header.first if found else 1
        self.end = self.first - 1

    def read(self, position: int) -> Record:
        """The record at ``position``; IndexError outside first..end, StateCorrupt on damage."""
        segment = self._segment_of(position)
        with _reading(segment) as fd:
            return scanning.read_record(fd, segment, self._index(segment), position)

    def records(self, first: int) -> Iterator[Record]:
        """The records from ``first`` (at least ``self.first``) to the end as it is when reached."""
        position = first
        while position <= self.end:
            segment = self._segment_of(position)
            with _reading(segment) as fd:
                index = self._index(segment)
                while position < index.next_position:
                    yield scanning.read_record(fd, segment, index, position)
                    position += 1

    def reject_positions(self, first: int) -> Iterator[int]:
        """Positions >= ``first`` whose records hold rejects, ascending; reads headers only."""
        position = max(first, self.first)
        while position <= self.end:
            index = self._index(self._segment_of(position))
            yield from scanning.reject_positions(index, position)
            position = max(index.next_position, position + 1)

    def last(self) -> Record | None:
        """The newest record, None in an empty log."""
        return self.read(self.end) if self.end >= self.first else None

    @property
    def whole(self) -> bool:
        """Whether it still begins where it began when it was made."""
        return not self._segments or not self._segments[0].header.previous_first

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments."""
        finished = sum(after.header.previous_bytes for after in self._segments[1:])
        return finished + (self._index(self._segments[-1]).end_offset if self._segments else 0)

    def _segment_of(self, position: int) -> Segment:
        if not self.first <= position <= self.end:
            raise IndexError(f"position {position} is outside {self.first}..{self.end}")
        return next(s for s in reversed(self._segments) if s.header.first <= position)

    def _index(self, segment: Segment) -> Index:
        index = self._indexes.get(segment.header.first)
        if index is None:
            with _reading(segment) as fd:
                index = scanning.scan_headers(fd, segment, os.fstat(fd).st_size)
            self._check_end(segment, index)
            finished = [first for first in self._indexes if first != self._last_first]
            if len(finished) >= INDEXES_KEPT:
                del self._indexes[finished[0]]
            self._indexes[segment.header.first] = index
        return index

    def verify_last(self) -> None:
        """Read and verify the last segment: sets ``end``. A torn tail is left alone."""
        if not self._segments:
            return
        fd = open_file(self._segments[-1].path, os.O_RDONLY)
        try:
            self._adopt(scanning.scan(fd, self._segments[-1], os.fstat(fd).st_size))
        finally:
            os.close(fd)

    def _adopt(self, scan: Scan) -> None:
        """Take the last segment's index."""
        self._indexes[scan.index.first] = scan.index
        self.end = scan.index.next_position - 1

    @property
    def _last_first(self) -> int:
        return self._segments[-1].header.first

    def _check_end(self, segment: Segment, index: Index) -> None:
        """A finished segment must end where the next one begins."""
        after = self._segments[self._segments.index(segment) + 1]
        if index.next_position != after.header.first:
            raise segments.corrupt(
                segment.path, index.end_offset,
                f"it ends before position {index.next_position}, {after.path.name} follows",
            )  # fmt: skip


@contextmanager
def _reading(segment: Segment) -> Iterator[int]:
    """A descriptor of the segment. Unreachable when the writer has deleted it since the listing."""
    try:
        fd = open_file(segment.path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise Unreachable(
            f"read the source log {segment.path}", "it was deleted meanwhile", "read the log anew"
        ) from error
    try:
        yield fd
    finally:
        os.close(fd)


def read_log(directory: Path) -> LogView:
    """A read-only view of a log as it is now, also while its writer runs; empty when there is none.

    A record still being written is left out. StateCorrupt on damage, Unreachable if forbidden.
    """
    for _ in range(LIST_ATTEMPTS):
        try:
            view = LogView(directory, segments.list_segments(directory))
            view.verify_last()
        except FileNotFoundError:  # deleted between listing and opening: list again
            continue
        except PermissionError as error:
            raise unusable(directory, error) from error
        return view
    raise Unreachable(
        f"open the source log {directory}", "its segments are deleted while they are listed"
    )


def unusable(directory: Path, error: OSError) -> Unreachable:
    """The refusal of a directory that is not ours or not a directory."""
    return Unreachable(
        f"open the source log {directory}",
        error.strerror or str(error),
        "it must be a directory that belongs to the user of the pipeline",
    )


def open_file(path: Path, flags: int) -> int:
    """A descriptor no child inherits."""
    return os.open(path, flags | os.O_CLOEXEC)
