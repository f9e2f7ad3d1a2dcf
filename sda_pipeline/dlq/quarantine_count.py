"""``<state>/quarantine.pos``: how many lines ``quarantine.jsonl`` has, a second witness. No lines.

It is replaced *before* a line is appended, so a kill in between leaves a line less than it says,
never one more: a line more was written by somebody else.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from sda_pipeline.durable_file import read_sealed, write_sealed
from sda_pipeline.errors import StateCorrupt

NAME = "quarantine.pos"


class Count(msgspec.Struct, frozen=True):
    """Lines, the sum of their CRCs, and that sum before the last of them."""

    lines: int = 0
    total: int = 0
    before: int = 0

    def plus(self, crc: int) -> Count:
        return Count(self.lines + 1, self.total + crc, self.total)

    def fault(self, lines: int, total: int) -> str:
        """Why a file with so many lines is not the one counted; "" when it is, or lacks only the
        line that was about to be written.
        """
        if self.before >= self.total and self != Count():
            return f"{NAME} beside it contradicts itself"
        if (lines, total) in {(self.lines, self.total), (self.lines - 1, self.before)}:
            return ""
        if lines in {self.lines, self.lines - 1}:
            return "its lines are not those that were written"
        return f"it holds {lines} lines, {self.lines} were written"


def read_count(path: Path) -> Count | None:
    """What was counted; None without a file. StateCorrupt when it is damaged."""
    try:
        return msgspec.json.decode(read_sealed(path), type=Count)
    except FileNotFoundError:
        return None
    except (ValueError, msgspec.MsgspecError) as error:
        raise StateCorrupt(
            f"read {path}", str(error), "it is made anew on the next start"
        ) from error


def write_count(path: Path, count: Count) -> None:
    """Replace the file, durably. May raise OSError."""
    write_sealed(path, msgspec.json.encode(count))
