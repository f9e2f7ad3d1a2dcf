"""The segment files of a source log: their format, their chain, making a new one.

Not their records' verification (``scanning.py``), nor which one is written, synced or deleted
(``source_log.py``).

A segment is a 64-byte header and then records ``length u4, crc32 u4, body``; the body is a frame
header (96 bytes), the frame's payload, and the packed rejects. The CRC covers the body. Each
segment header also names the segment before it and that one's final size, so that a missing or
a shortened segment is seen without reading it.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sda_pipeline.errors import InvalidConfiguration, StateCorrupt
from sda_pipeline.records.frames import Header

MAGIC, VERSION = b"SDL1", 1
SUFFIX = ".log"
NAME_DIGITS = 20
SEGMENT_HEADER = struct.Struct("<4sHBxQQQQQ12xI")
SEGMENT_HEADER_BYTES = SEGMENT_HEADER.size
RECORD_HEAD = struct.Struct("<II")
assert (SEGMENT_HEADER_BYTES, RECORD_HEAD.size) == (64, 8), "part of the log format"


class Record(NamedTuple):
    """One log record taken apart; ``rejects`` is packed (records/rejects.py), empty when none."""

    header: Header
    payload: memoryview | bytes
    rejects: bytes


@dataclass(frozen=True)
class SegmentHeader:
    """The 64 bytes before a segment's records. ``previous_*`` is 0 in a log's first segment ever.

    ``previous_ingest`` (wall clock, ns) is that of the last record before this segment: it tells
    the age of the one before.
    """

    source: int
    log_id: int
    first: int
    previous_first: int = 0
    previous_bytes: int = 0
    previous_ingest: int = 0

    def pack(self) -> bytes:
        """The header's bytes, closed by their own CRC-32."""
        body = SEGMENT_HEADER.pack(
            MAGIC, VERSION, self.source, self.log_id, self.first,
            self.previous_first, self.previous_bytes, self.previous_ingest, 0,
        )[:-4]  # fmt: skip
        return body + struct.pack("<I", zlib.crc32(body))


class Segment(NamedTuple):
    """One segment file of a log."""

    path: Path
    header: SegmentHeader


def corrupt(path: Path, offset: int, why: str) -> StateCorrupt:
    """The refusal of a damaged log, naming file and offset."""
    return StateCorrupt(
        f"read the source log {path} at byte {offset}",
        why,
        f"move {path.parent} aside: the log is made anew after the last applied position",
    )


def segment_name(first: int) -> str:
    """File name of the segment whose first position is ``first``."""
    return f"{first:0{NAME_DIGITS}d}{SUFFIX}"


def parse_segment_header(data: bytes, path: Path) -> SegmentHeader:
    """Read a segment's first 64 bytes; StateCorrupt on wrong size, magic, CRC or name.

    InvalidConfiguration on another version.
    """
    if len(data) < SEGMENT_HEADER_BYTES:
        raise corrupt(path, 0, f"its header is cut off after {len(data)} bytes")
    magic, version, source, *rest, crc = SEGMENT_HEADER.unpack_from(data)
    if magic != MAGIC:
        raise corrupt(path, 0, f"magic is {magic!r}, not {MAGIC!r}")
    ours = SEGMENT_HEADER.pack(magic, VERSION, source, *rest, 0)[:-4]
    if version != VERSION and zlib.crc32(ours) != crc:  # else only its version is damaged
        raise InvalidConfiguration(
            f"read the source log {path}",
            [f"it has format version {version}, this release reads {VERSION}"],
            "use the release that wrote it",
        )
    if zlib.crc32(data[: SEGMENT_HEADER_BYTES - 4]) != crc:
        raise corrupt(path, 0, "the CRC of the segment header does not match")
    header = SegmentHeader(source, *rest)
    if path.name != segment_name(header.first):
        raise corrupt(path, 0, f"its first position is {header.first}, its name says otherwise")
    return header


def list_segments(directory: Path) -> list[Segment]:
    """The segments in order of position; reads headers only. StateCorrupt on a hole."""
    found: list[Segment] = []
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        with path.open("rb") as file:
            header = parse_segment_header(file.read(SEGMENT_HEADER_BYTES), path)
        if found:
            _check_chain(found[-1], path, header)
        found.append(Segment(path, header))
    return found


def _check_chain(before: Segment, path: Path, header: SegmentHeader) -> None:
    own = before.header
    if (header.log_id, header.source) != (own.log_id, own.source):
        raise corrupt(path, 0, f"it is of another log than {before.path.name}")
    if header.previous_first != own.first:
        missing = segment_name(header.previous_first)
        raise corrupt(path, 0, f"a hole: the segment {missing} before it is missing")
    size = before.path.stat().st_size
    if size != header.previous_bytes:
        at = min(size, header.previous_bytes)
        raise corrupt(before.path, at, f"it holds {size} bytes, not {header.previous_bytes}")


def read_exactly(fd: int, length: int, offset: int) -> bytes:
    """``length`` bytes at ``offset``, fewer only at the end of the file."""
    data = os.pread(fd, length, offset)
    while len(data) < length and (more := os.pread(fd, length - len(data), offset + len(data))):
        data += more
    return data


def write_segment(directory: Path, header: SegmentHeader) -> Segment:
    """A new empty segment: written aside, fsynced, renamed, directory fsynced."""
    path = directory / segment_name(header.first)
    aside = path.with_suffix(".tmp")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_at(fd, [header.pack()], 0)
        os.fsync(fd)
    except OSError:
        aside.unlink()
        raise
    finally:
        os.close(fd)
    aside.rename(path)
    sync_directory(directory)
    return Segment(path, header)


def write_at(fd: int, parts: list[bytes], offset: int) -> int:
    """Write the parts at ``offset`` in one call; only a short write is continued. Returns size."""
    total = sum(map(len, parts))
    written = os.pwritev(fd, parts, offset)
    if written < total:  # a full disk takes a part first and refuses only the next call
        rest = b"".join(parts)
        while written < total:
            written += os.pwrite(fd, rest[written:], offset + written)
    return total


def sync_directory(directory: Path) -> None:
    """Make names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
