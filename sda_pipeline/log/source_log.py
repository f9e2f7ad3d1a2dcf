"""The source log: what makes an observation acknowledged (DESIGN 5, SPEC 4).

Not the format of its files (``segments.py``), nor what the frames mean. ``SourceLog`` is the one
writer's; an audit beside a running writer uses ``read_log``, which changes nothing and leaves out
a record that is still being written.

At most one record is ever unsynced, so a power loss can tear only the last one: that is what allows
``SourceLog.open`` to tell a torn tail (truncated) from damage (refused). An open reads the last
segment and the 64-byte headers of the others; damage inside those is found when they are read.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from sda_pipeline.errors import StateCorrupt, Unreachable
from sda_pipeline.limits import SEGMENT_BYTES
from sda_pipeline.log import scanning, segments
from sda_pipeline.log.log_view import LogView, open_file, read_log, unusable
from sda_pipeline.log.scanning import Index
from sda_pipeline.log.segments import Record, Segment, SegmentHeader
from sda_pipeline.records.frames import HEADER_BYTES, Header

__all__ = ["LogStart", "LogView", "Record", "SourceLog", "read_log", "set_aside"]


class LogStart(NamedTuple):
    """Where a new or recreated log begins. ``log_id`` is 8 random bytes as an integer."""

    log_id: int
    first_position: int


class SourceLog(LogView):
    """The writer's log; not for several threads. ``truncated_bytes``: torn tail removed on open."""

    def __init__(self, directory: Path, found: list[Segment], segment_bytes: int) -> None:
        super().__init__(directory, found)
        self._segment_bytes = segment_bytes
        self._unsynced = False
        self._failed = ""
        active = found[-1]
        self._fd = open_file(active.path, os.O_RDWR)
        try:
            size = os.fstat(self._fd).st_size
            scan = scanning.scan(self._fd, active, size)
            self.truncated_bytes = scan.torn
            if scan.torn:
                os.ftruncate(self._fd, scan.index.end_offset)
            os.fdatasync(self._fd)
        except BaseException:
            os.close(self._fd)
            raise
        self._adopt(scan)
        self._active = scan.index
        self._last_ingest = scan.last.ingest if scan.last else active.header.previous_ingest

    @classmethod
    def open(
        cls,
        directory: Path,
        source: int,
        start: LogStart | None,
        *,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> SourceLog:
        """Open, repair and sync a log; an empty one is created at ``start``.

        StateCorrupt on damage, a hole, another source's log, or an empty directory without
        ``start``; Unreachable when the directory cannot be used; OSError when a sync fails.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in directory.glob("*.tmp"):
                leftover.unlink()
            found = segments.list_segments(directory)
            if not found:
                found = [cls._create(directory, source, start)]
            if found[-1].header.source != source:
                why = f"it is of source {found[-1].header.source}, not {source}"
                raise segments.corrupt(found[-1].path, 0, why)
            log = cls(directory, found, segment_bytes)
        except (PermissionError, NotADirectoryError, FileExistsError) as error:
            raise unusable(directory, error) from error
        segments.sync_directory(directory)
        return log

    @staticmethod
    def exists(directory: Path) -> bool:
        """True when the directory holds a log (damaged or not)."""
        return any(directory.glob(f"*{segments.SUFFIX}"))

    @staticmethod
    def _create(directory: Path, source: int, start: LogStart | None) -> Segment:
        if start is None:
            raise StateCorrupt(f"open the source log {directory}", "it holds no segment")
        assert start.first_position >= 1, "positions begin at 1"
        segments.sync_directory(directory.parent)
        header = SegmentHeader(source, start.log_id, start.first_position)
        return segments.write_segment(directory, header)

    def append(self, header: Header, payload: bytes, rejects: bytes) -> None:
        """Write one record, whose position must be ``end + 1``; durable only after ``sync``.

        OSError (disk full, EIO) leaves the log as it was before the call, so that a retry is clean.
        """
        assert header.position == self.end + 1, "positions are contiguous"
        assert (header.log_id, header.source) == (self.log_id, self.source), "another log's frame"
        assert header.length == len(payload), "the header describes this payload"
        self._refuse_after_failure()
        if self._unsynced:
            self.sync()  # the tear of a power loss must stay inside the last record
        frame = header.pack()
        length = HEADER_BYTES + len(payload) + len(rejects)
        size = segments.RECORD_HEAD.size + length
        if self._active.offsets and self._active.end_offset + size > self._segment_bytes:
            self._roll()
        crc = zlib.crc32(rejects, zlib.crc32(payload, zlib.crc32(frame)))
        head = segments.RECORD_HEAD.pack(length, crc)
        self._write([head + frame, payload, rejects])
        self._active.add(size, bool(rejects))
        self.end = header.position
        self._last_ingest = header.ingest
        self._unsynced = True

    def sync(self) -> None:
        """Make all appended records durable. After an OSError the log can only be read."""
        self._refuse_after_failure()
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            # The page cache would report success next time without the data being on disk.
            self._failed = f"a sync of it failed ({error.strerror})"
            raise
        self._unsynced = False

    def delete_below(self, position: int, older_than_ns: int, keep_bytes: int = 0) -> int:
        """Delete whole segments, oldest first, and return how many; never the last one.

        A segment goes when all its positions are < ``position``, its newest record's ingest time
        is < ``older_than_ns`` (wall clock), and the log is larger than ``keep_bytes``. The newest
        record always stays.
        """
        deleted = 0
        while len(self._segments) > 1 and self.size_bytes > keep_bytes:
            oldest, after = self._segments[:2]
            if after.header.first > min(position, self.end):
                break
            if after.header.previous_ingest >= older_than_ns:
                break
            oldest.path.unlink()
            # One sync each: were a later unlink durable before this one, the log would have a hole.
            segments.sync_directory(self.directory)
            del self._segments[0]
            self._indexes.pop(oldest.header.first, None)
            self.first = after.header.first
            deleted += 1
        return deleted

    def close(self) -> None:
        """Release the file; syncs nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> SourceLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, parts: list[bytes]) -> None:
        before = self._active.end_offset
        try:
            segments.write_at(self._fd, parts, before)
        except OSError:
            try:
                os.ftruncate(self._fd, before)
            except OSError as error:
                self._failed = f"a partial record could not be removed ({error.strerror})"
            raise

    def _roll(self) -> None:
        """Begin the next segment; everything before it is synced, so only the last can be torn."""
        header = SegmentHeader(
            self.source, self.log_id, self.end + 1,
            self._last_first, self._active.end_offset, self._last_ingest,
        )  # fmt: skip
        segment = segments.write_segment(self.directory, header)
        fd = open_file(segment.path, os.O_RDWR)
        os.close(self._fd)
        self._fd = fd
        self._active = Index(header.first)
        self._segments.append(segment)
        self._indexes[header.first] = self._active

    def _refuse_after_failure(self) -> None:
        if self._failed:
            raise Unreachable(
                f"write the source log {self.directory}", self._failed, "restart the pipeline"
            )


def set_aside(directory: Path) -> Path:
    """Rename a log that no longer fits out of the way, keeping it; returns its new path."""
    number = 1
    while (aside := directory.with_name(f"{directory.name}.aside-{number}")).exists():
        number += 1
    directory.rename(aside)
    segments.sync_directory(directory.parent)
    return aside
