"""``<state>/recoveries``: how often each rung of the ladder served since that directory was made.

For people, beyond the life of a supervisor; decides nothing. It is written once a recovery is done,
so a kill right before leaves that one uncounted, never one counted twice.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import msgspec

from sda_pipeline.errors import StateCorrupt
from sda_pipeline.log.segments import sync_directory

NAME = "recoveries"


def read_recoveries(state: Path) -> dict[str, int]:
    """Times by rung, {} without a file. StateCorrupt when it is damaged, OSError as it comes."""
    path = state / NAME
    try:
        body, _, crc = path.read_bytes().rstrip().rpartition(b"\n")
    except FileNotFoundError:
        return {}
    try:
        if int(crc, 16) != zlib.crc32(body):
            raise ValueError("its CRC is wrong")
        return msgspec.json.decode(body, type=dict[str, int])
    except (ValueError, msgspec.MsgspecError) as error:
        raise StateCorrupt(f"read {path}", str(error), "it begins anew") from error


def write_recoveries(state: Path, counts: dict[str, int]) -> None:
    """Replace the file: temporary file, sync, rename, sync of the directory. May raise OSError."""
    body = msgspec.json.encode(counts)
    path = state / NAME
    temporary = path.with_name(f"{NAME}.tmp")
    with temporary.open("wb") as file:
        file.write(b"%b\n%08x\n" % (body, zlib.crc32(body)))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(state)
