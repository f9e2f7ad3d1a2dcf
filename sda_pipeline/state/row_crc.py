"""The CRC that closes each row of a SQLite store. SQLite itself does not notice a flipped byte
inside a value.
"""

from __future__ import annotations

import zlib

import msgspec

from sda_pipeline.errors import StateCorrupt

Value = int | str | bytes | None


def row_crc(*values: Value) -> int:
    """CRC-32 over a row's values."""
    return zlib.crc32(msgspec.msgpack.encode(values))


def check_row(what: str, crc: Value, *values: Value) -> None:
    """StateCorrupt when a row read back is not the row that was written."""
    if crc != row_crc(*values):
        raise StateCorrupt(f"read {what}", "its row does not match its CRC", "restore the file")
