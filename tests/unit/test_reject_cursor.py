"""The second cursor over a source log: what a log made anew tells the dlq-sink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from operators.reject_cursor import RejectCursor
from sda_pipeline.log.source_log import LogStart, SourceLog
from sda_pipeline.records.rejects import KIND_PROGRESS, RejectHead


class Ring:
    """Takes every frame."""

    def __init__(self) -> None:
        self.heads: list[RejectHead] = []

    def try_publish(self, head: bytes, _parts: Any, _crc: int) -> bool:
        self.heads.append(RejectHead.unpack(head))
        return True


@pytest.mark.parametrize(("first", "told"), [(1, []), (7, [6])])
def test_a_log_made_anew_and_still_empty_tells_where_it_begins(
    tmp_path: Path, first: int, told: list[int]
) -> None:
    # Else the mark of a sink that lost its files stays below it, and a run never comes to rest.
    ring = Ring()
    with SourceLog.open(tmp_path / "radar", 0, LogStart(9, first)) as log:
        cursor = RejectCursor(0, log, ring, first - 1)  # type: ignore[arg-type]
        cursor.send(10**12, 0)
        cursor.send(2 * 10**12, 0)
    assert [(head.kind, head.position, head.log_id) for head in ring.heads] == [
        (KIND_PROGRESS, position, 9) for position in told
    ]
