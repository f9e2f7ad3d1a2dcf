"""Reading one segment: verification, index, torn tail or damage.

Opens, changes and repairs nothing: ``source_log.py`` acts on what is found here.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from sda_pipeline.errors import InvalidConfiguration, StateCorrupt
from sda_pipeline.log.segments import (
    RECORD_HEAD,
    SEGMENT_HEADER_BYTES,
    Record,
    Segment,
    SegmentHeader,
    corrupt,
    read_exactly,
)
from sda_pipeline.records import frames
from sda_pipeline.records.frames import HEADER_BYTES, Header, parse_header


@dataclass
class Index:
    """Where a segment's records stand: ``offsets[i]``, ``rejects[i]`` are of position first + i."""

    first: int
    end_offset: int = SEGMENT_HEADER_BYTES
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    rejects: bytearray = field(default_factory=bytearray)

    @property
    def next_position(self) -> int:
        return self.first + len(self.offsets)

    def add(self, record_bytes: int, has_rejects: bool) -> None:
        """Note the record that starts at ``end_offset``."""
        self.offsets.append(self.end_offset)
        self.rejects.append(has_rejects)
        self.end_offset += record_bytes


@dataclass(frozen=True)
class Scan:
    """All valid records of a segment; ``torn`` bytes after them belong to no whole record."""

    index: Index
    torn: int
    last: Header | None


def scan(fd: int, segment: Segment, size: int) -> Scan:
    """Verify every record of the first ``size`` bytes of a segment.

    What follows the last valid record is a torn tail if nothing valid comes after it; else
    StateCorrupt.
    """
    index, last = Index(segment.header.first), None
    while index.end_offset < size:
        body = _body(fd, index.end_offset, size)
        if body is None:
            _refuse_if_followed(fd, segment, index, size)
            break
        header = _checked_header(body, len(body), segment, index.end_offset, index.next_position)
        rejects = len(body) > HEADER_BYTES + header.length
        index.add(RECORD_HEAD.size + len(body), rejects)
        last = header
    return Scan(index, size - index.end_offset, last)


def scan_headers(fd: int, segment: Segment, size: int) -> Index:
    """The index of a finished segment from record heads alone; its payloads are not read."""
    index = Index(segment.header.first)
    while index.end_offset < size:
        offset = index.end_offset
        data = read_exactly(fd, RECORD_HEAD.size + HEADER_BYTES, offset)
        length = RECORD_HEAD.unpack_from(data)[0] if len(data) >= RECORD_HEAD.size else 0
        if len(data) < RECORD_HEAD.size + HEADER_BYTES or offset + RECORD_HEAD.size + length > size:
            raise corrupt(segment.path, offset, "a record runs past the end of a finished segment")
        frame = data[RECORD_HEAD.size :]
        header = _checked_header(frame, length, segment, offset, index.next_position)
        index.add(RECORD_HEAD.size + length, length > HEADER_BYTES + header.length)
    return index


def read_record(fd: int, segment: Segment, index: Index, position: int) -> Record:
    """The record at ``position``, its CRC verified."""
    offset = index.offsets[position - index.first]
    body = _body(fd, offset, index.end_offset)
    if body is None:
        raise corrupt(segment.path, offset, f"the CRC of position {position} does not match")
    header = _checked_header(body, len(body), segment, offset, position)
    end = HEADER_BYTES + header.length
    return Record(header, memoryview(body)[HEADER_BYTES:end], body[end:])


def reject_positions(index: Index, first: int) -> Iterator[int]:
    """Positions from ``first`` on whose records hold rejects."""
    at = index.rejects.find(1, max(0, first - index.first))
    while at >= 0:
        yield index.first + at
        at = index.rejects.find(1, at + 1)


def _body(fd: int, offset: int, size: int) -> bytes | None:
    """The body of the record at ``offset``; None when it is incomplete or its CRC is wrong."""
    head = read_exactly(fd, RECORD_HEAD.size, offset)
    if len(head) < RECORD_HEAD.size:
        return None
    length, crc = RECORD_HEAD.unpack(head)
    start = offset + RECORD_HEAD.size
    if length < HEADER_BYTES or start + length > size:
        return None
    body = read_exactly(fd, length, start)
    return body if len(body) == length and zlib.crc32(body) == crc else None


def _checked_header(
    data: bytes, length: int, segment: Segment, offset: int, position: int
) -> Header:
    """The frame header of a body of ``length`` bytes; it must be the one that belongs here."""
    own, path = segment.header, segment.path
    try:
        header = parse_header(data)
    except StateCorrupt as error:
        raise corrupt(path, offset, error.why) from error
    except InvalidConfiguration as error:
        action, hint = (
            f"read the source log {path} at byte {offset}",
            "use the release that wrote it",
        )
        raise InvalidConfiguration(action, error.faults, hint) from error
    if (header.log_id, header.source) != (own.log_id, own.source):
        raise corrupt(path, offset, f"a record of another log ({header.log_id:016x}) is there")
    if header.position != position:
        raise corrupt(path, offset, f"position {header.position} is there instead of {position}")
    if HEADER_BYTES + header.length > length:
        raise corrupt(path, offset, f"position {position} is shorter than its payload")
    return header


def _refuse_if_followed(fd: int, segment: Segment, index: Index, size: int) -> None:
    """Tell damage from a torn tail: one record at most is unsynced, so only the last can be torn.

    A valid frame header of this log with a later position proves that the bad record was whole.
    """
    offset, position = index.end_offset, index.next_position
    data = read_exactly(fd, size - offset, offset)
    at = data.find(frames.MAGIC)
    while at >= 0:
        later = _later_header(data[at : at + HEADER_BYTES], segment.header, position)
        if later is not None:
            raise corrupt(
                segment.path, offset,
                f"position {position} is damaged, and position {later.position} follows it",
            )  # fmt: skip
        at = data.find(frames.MAGIC, at + 1)


def _later_header(data: bytes, own: SegmentHeader, position: int) -> Header | None:
    if len(data) < HEADER_BYTES:
        return None
    try:
        header = parse_header(data)
    except StateCorrupt:
        return None
    return header if header.log_id == own.log_id and header.position > position else None
