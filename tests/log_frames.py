"""Small log records for tests of the source log. Not for tests of what frames mean."""

from __future__ import annotations

import zlib
from pathlib import Path

from sda_pipeline.log.segments import Record
from sda_pipeline.log.source_log import SourceLog
from sda_pipeline.records.frames import KIND_ROWS, Header

LOG_ID = 0x1122334455667788
SOURCE = 2


def header(position: int, payload: bytes, *, log_id: int = LOG_ID, ingest: int = 0) -> Header:
    """A header that fits ``payload``; its ingest time defaults to the position."""
    return Header(
        kind=KIND_ROWS, source=SOURCE, log_id=log_id, position=position, watermark=0, max_time=0,
        ingest=ingest or position, catalogue=0, rows=0, logged=0, length=len(payload),
        payload_crc=zlib.crc32(payload), parts=0,
    )  # fmt: skip


def fill(log: SourceLog, count: int, *, size: int = 40, rejects: bytes = b"") -> None:
    """Append and sync ``count`` distinct records after the log's end."""
    for position in range(log.end + 1, log.end + 1 + count):
        payload = position.to_bytes(8, "little") * (size // 8)
        log.append(header(position, payload), payload, rejects)
        log.sync()


def plain(record: Record) -> tuple[int, bytes, bytes]:
    """A record as comparable values."""
    return record.header.position, bytes(record.payload), record.rejects


def files(directory: Path) -> list[str]:
    """Names in a log directory, sorted."""
    return sorted(path.name for path in directory.iterdir())
