"""``<state>/recoveries``: how often each rung of the ladder served since that directory was made.

For people, beyond the life of a supervisor; decides nothing. It is written once a recovery is done,
so a kill right before leaves that one uncounted, never one counted twice.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from sda_pipeline.durable_file import read_sealed, write_sealed
from sda_pipeline.errors import StateCorrupt

NAME = "recoveries"


def read_recoveries(state: Path) -> dict[str, int]:
    """Times by rung, {} without a file. StateCorrupt when it is damaged, OSError as it comes."""
    path = state / NAME
    try:
        return msgspec.json.decode(read_sealed(path), type=dict[str, int])
    except FileNotFoundError:
        return {}
    except (ValueError, msgspec.MsgspecError) as error:
        raise StateCorrupt(f"read {path}", str(error), "it begins anew") from error


def write_recoveries(state: Path, counts: dict[str, int]) -> None:
    """Replace the file, durably. May raise OSError."""
    write_sealed(state / NAME, msgspec.json.encode(counts))
