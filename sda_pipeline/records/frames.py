"""Frame v1: header, partition entries, counts, rows (SPEC 3).

The same bytes go to log, ring and LMDB.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from sda_pipeline.errors import InvalidConfiguration, StateCorrupt
from sda_pipeline.records.rows import ROW, Rows

MAGIC, VERSION = b"SDF1", 1
KIND_ROWS, KIND_IDLE, KIND_END = 1, 2, 3
FLAG_NEVER_SHED = 1  # bit 0 of frame_flags
HEADER = struct.Struct("<4sHBBQQqqqQIIIIHH16xI")
HEADER_BYTES = HEADER.size
PART = struct.Struct("<iIqq")
assert (HEADER_BYTES, PART.size) == (96, 24), "the frame is part of the log format"


class Part(NamedTuple):
    """Where one partition stands after this frame. ``watermark`` is W_p in ns."""

    partition: int
    generation: int
    next_offset: int
    watermark: int


@dataclass(frozen=True)
class Counts:
    """Cumulative classes of a source's input; ``read`` is the sum of those that follow it.

    ``reported`` is no class: so many rows, counted in ``rows`` before, were skipped by the
    correlator as quarantined, and their originals logged as rejects afterwards.
    """

    read: int = 0
    rows: int = 0
    late: int = 0
    rejected: int = 0
    quarantined: int = 0
    missing: int = 0
    discarded_empty: int = 0
    discarded_oversize: int = 0
    reported: int = 0

    @property
    def discarded(self) -> int:
        return self.discarded_empty + self.discarded_oversize

    def plus(self, other: Counts) -> Counts:
        """Field by field sum."""
        return Counts(*(a + b for a, b in zip(self.as_tuple(), other.as_tuple(), strict=True)))

    def as_tuple(self) -> tuple[int, ...]:
        return (
            self.read, self.rows, self.late, self.rejected,
            self.quarantined, self.missing, self.discarded_empty, self.discarded_oversize,
            self.reported,
        )  # fmt: skip

    def residue(self) -> int:
        """0 when every record read ended in exactly one class."""
        return self.read - (
            self.rows + self.late + self.rejected + self.discarded + self.quarantined + self.missing
        )


COUNTS = struct.Struct("<9Q")


@dataclass(frozen=True)
class Header:
    """The 96 bytes before a frame's payload. Times in ns; ``watermark`` is the source's."""

    kind: int
    source: int  # index of the source in the topology
    log_id: int
    position: int
    watermark: int
    max_time: int
    ingest: int
    catalogue: int
    rows: int
    logged: int  # rows before any shedding
    length: int  # of the payload, bytes
    payload_crc: int
    parts: int
    frame_flags: int = 0

    def pack(self) -> bytes:
        """The header's bytes, closed by their own CRC-32."""
        body = HEADER.pack(
            MAGIC, VERSION, self.kind, self.source, self.log_id, self.position, self.watermark,
            self.max_time, self.ingest, self.catalogue, self.rows, self.logged, self.length,
            self.payload_crc, self.parts, self.frame_flags, 0,
        )[:-4]  # fmt: skip
        return body + struct.pack("<I", zlib.crc32(body))

    def never_shed(self) -> Header:
        """The same header marked as not to be shed."""
        return replace(self, frame_flags=self.frame_flags | FLAG_NEVER_SHED)


@dataclass(frozen=True)
class Frame:
    """One frame taken apart. ``rows`` is a read-only view into the payload."""

    header: Header
    parts: tuple[Part, ...]
    counts: Counts
    rows: Rows


def parse_header(data: bytes | memoryview) -> Header:
    """Read the first 96 bytes; StateCorrupt on a wrong magic or CRC.

    InvalidConfiguration on a whole header of another version.
    """
    fields = HEADER.unpack_from(data)
    magic, version, kind, source, *rest = fields
    if magic != MAGIC:
        raise StateCorrupt("read a frame", f"magic is {magic!r}, not {MAGIC!r}")
    if zlib.crc32(bytes(data[: HEADER_BYTES - 4])) != rest[-1]:
        raise StateCorrupt("read a frame", "its header CRC does not match")
    if version != VERSION:
        raise InvalidConfiguration(
            "read a frame",
            [f"it has format version {version}, this release reads {VERSION}"],
            "use the release that wrote it",
        )
    return Header(kind, source, *rest[:-1])


def build_payload(parts: tuple[Part, ...], counts: Counts, rows: Rows) -> bytes:
    """Partition entries, counts, rows as one byte string."""
    packed = b"".join(PART.pack(*part) for part in parts)
    return packed + COUNTS.pack(*counts.as_tuple()) + rows.tobytes()


def parse_payload(header: Header, payload: bytes | memoryview) -> Frame:
    """Take a payload apart. The caller has verified its CRC; sizes are checked here."""
    counts_at = header.parts * PART.size
    rows_at = counts_at + COUNTS.size
    if len(payload) != header.length or header.length != rows_at + header.rows * ROW.itemsize:
        raise StateCorrupt("read a frame", f"its payload of {len(payload)} bytes does not fit")
    parts = tuple(Part(*PART.unpack_from(payload, i * PART.size)) for i in range(header.parts))
    counts = Counts(*COUNTS.unpack_from(payload, counts_at))
    rows = np.frombuffer(payload, ROW, header.rows, rows_at)
    return Frame(header, parts, counts, rows)
