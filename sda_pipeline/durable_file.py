"""Small files that are replaced whole, so that a kill or a power cut leaves the old one or the new
one; sealed ones say so of themselves. Not what is in them.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from sda_pipeline.log.segments import sync_directory


def write_durably(path: Path, data: bytes) -> None:
    """Temporary file, sync, rename, sync of the directory. May raise OSError."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def sealed(body: bytes) -> bytes:
    """With a line of its CRC-32 behind it."""
    return b"%b\n%08x\n" % (body, zlib.crc32(body))


def write_sealed(path: Path, body: bytes) -> None:
    """Durably, with its seal. May raise OSError."""
    write_durably(path, sealed(body))


def read_sealed(path: Path) -> bytes:
    """The body. ValueError when it is not what was written; may raise OSError."""
    body, _, crc = path.read_bytes().rstrip().rpartition(b"\n")
    if int(crc, 16) != zlib.crc32(body):
        raise ValueError("its CRC is wrong")
    return body
