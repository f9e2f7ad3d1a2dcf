"""High-water marks: what a chunk adds, what is a repeat, what is a gap."""

from __future__ import annotations

import pytest

from sda_pipeline.dlq.marks import NO_INDEX, NOTHING, Mark, take, written
from sda_pipeline.errors import Rewind
from tests.unit.dlq_rig import LOG, head, progress

HALF = Mark(LOG, 5, 1, complete=False)  # position 5: rejects 0 and 1 are written, more is to come
WHOLE = Mark(LOG, 5, 3)

CASES = [
    ("the very first", NOTHING, head(9, 2), 0, Mark(LOG, 9, 1)),
    ("the very first progress", NOTHING, progress(9), 0, Mark(LOG, 9)),
    ("the rest of a position", HALF, head(5, 2, 2), 0, Mark(LOG, 5, 3)),
    ("some more of it", HALF, head(5, 2, 2, last=False), 0, Mark(LOG, 5, 3, complete=False)),
    ("a position again from its start", HALF, head(5, 2, 0, last=False), 2, HALF),
    ("cut otherwise", HALF, head(5, 4, 0), 2, Mark(LOG, 5, 3)),
    ("its last chunk, known", HALF, head(5, 2, 0), 2, Mark(LOG, 5, 1)),
    ("a known position", WHOLE, head(5, 4), 4, WHOLE),
    ("an older one", WHOLE, head(2, 3), 3, WHOLE),
    ("older progress", WHOLE, progress(4), 0, WHOLE),
    ("older progress while half", HALF, progress(4), 0, HALF),
    ("the next", WHOLE, head(6, 1), 0, Mark(LOG, 6, 0)),
    ("one further", WHOLE, head(8, 1, last=False), 0, Mark(LOG, 8, 0, complete=False)),
    ("progress", WHOLE, progress(8), 0, Mark(LOG, 8, NO_INDEX)),
    ("another log", WHOLE, head(3, 2, log_id=7), 0, Mark(7, 3, 1, replaced=True)),
    ("another log while half", HALF, progress(3, log_id=7), 0, Mark(7, 3, replaced=True)),
]
GAPS = [
    ("the middle of a position", WHOLE, head(6, 2, 2)),
    ("the middle of it in another log", WHOLE, head(6, 2, 2, log_id=7)),
    ("a hole within it", HALF, head(5, 2, 3)),
    ("the next before the rest", HALF, head(6, 2)),
    ("progress before the rest", HALF, progress(6)),
    ("progress of the same before the rest", HALF, progress(5)),
]


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_what_a_chunk_adds(case: tuple) -> None:
    _, mark, told, skip, after = case
    assert take(mark, told) == (skip, after)


@pytest.mark.parametrize("case", GAPS, ids=[case[0] for case in GAPS])
def test_what_is_missing_in_between_is_a_rewind(case: tuple) -> None:
    _, mark, told = case
    with pytest.raises(Rewind, match="cannot take rejects"):
        take(mark, told)


def test_only_a_whole_position_is_done() -> None:
    assert (NOTHING.done, HALF.done, WHOLE.done) == (0, 4, 5)


def test_a_line_found_in_the_files_moves_the_mark_but_proves_no_end() -> None:
    mark = written(WHOLE, LOG, 6, 0)
    assert mark == Mark(LOG, 6, 0, complete=False, entries=1)
    assert written(mark, 7, 1, 0) == Mark(7, 1, 0, complete=False, entries=2, replaced=True)
    assert not written(NOTHING, LOG, 6, 0).replaced
