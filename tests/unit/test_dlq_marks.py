"""High-water marks: what a chunk adds, what is a repeat, what is a gap."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sda_pipeline.dlq.marks import NO_INDEX, NOTHING, Mark, take, written
from sda_pipeline.errors import Rewind
from sda_pipeline.records.rejects import Reach, Sent
from tests.unit.dlq_rig import LOG, before, head, progress

HALF = Mark(LOG, 5, 1, complete=False)  # position 5: rejects 0 and 1 are written, more is to come
WHOLE = Mark(LOG, 5, 3)
BEFORE = Mark(LOG, 8, 2, complete=False)  # of what was before a log that begins at 9

CASES = [
    ("the very first", NOTHING, before(0), 0, Mark(LOG, 0)),
    ("a log without its beginning", NOTHING, before(8), 0, Mark(LOG, 8)),
    (
        "what was before, in part",
        NOTHING,
        before(8, 3, last=False),
        0,
        Mark(LOG, 8, 2, complete=False),
    ),
    ("more of it", BEFORE, before(8, 2, 3, last=False), 0, Mark(LOG, 8, 4, complete=False)),
    ("all of it", BEFORE, before(8, 0, 3), 0, Mark(LOG, 8)),
    ("it again", BEFORE, before(8, 2, 0, last=False), 0, Mark(LOG, 8, 1, complete=False)),
    ("it again and less of it", BEFORE, before(8, 0, 0), 0, Mark(LOG, 8)),
    ("it again when all is done", WHOLE, before(4, 7, 0, last=False), 7, WHOLE),
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
    ("another log", WHOLE, before(3, log_id=7), 0, Mark(7, 3, replaced=True)),
    ("another log while half", HALF, before(3, log_id=7), 0, Mark(7, 3, replaced=True)),
    ("the log begins behind it", WHOLE, before(9, 1), 0, Mark(LOG, 9)),
    ("after the one before", WHOLE, head(8, 1, after=5), 0, Mark(LOG, 8, 0)),
    ("after an older one", WHOLE, progress(8, after=3), 0, Mark(LOG, 8)),
    ("a known one after an unknown", WHOLE, head(5, 2, after=4), 2, WHOLE),
]
GAPS = [
    ("the middle of a position", WHOLE, head(6, 2, 2)),
    ("the very first", NOTHING, head(9, 2)),
    ("the very first progress", NOTHING, progress(9)),
    ("another log", WHOLE, head(6, 2, log_id=7)),
    ("progress of another log", WHOLE, progress(6, log_id=7)),
    ("a skipped position", WHOLE, head(9, 1, after=6)),
    ("progress after a skipped position", WHOLE, progress(9, after=6)),
    ("the next after the rest", HALF, head(6, 2, after=5)),
    ("a hole in what was before", BEFORE, before(8, 1, 4, last=False)),
    ("the end of what was before", BEFORE, before(8, 0, 4)),
    ("the middle of what was before another log", WHOLE, before(8, 1, 1, log_id=7)),
    ("the log before the rest of what was before", BEFORE, head(9, 1, after=8)),
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


def test_what_completes_a_position_says_how_far_all_is_there() -> None:
    far, near = (Reach(0, 0, 70),), (Reach(0, 0, 50),)
    mark = msgspec.structs.replace(WHOLE, reaches=near, catalogue=3)
    for told in (head(6, 1), progress(6), before(9)):
        after = take(mark, told)[1].knows(mark, Sent([], far, 4, 2))
        assert (after.reaches, after.catalogue, after.in_doubt) == (far, 4, 2)
    for told in (head(6, 1, last=False), before(9, 1, last=False), head(5, 1), before(4)):
        after = take(mark, told)[1].knows(mark, Sent([], far, 4, 2))
        assert (after.reaches, after.catalogue, after.in_doubt) == (near, 3, 0)
    assert written(mark, LOG, 6, 0).reaches == near
    assert take(mark, before(9, log_id=7))[1].reaches == near


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), min_size=1, max_size=8),
    st.integers(0, 3),
    st.data(),
)
def test_any_frame_lost_on_the_way_is_seen(
    steps: list[tuple[int, int]], lost: int, data: st.DataObject
) -> None:
    """Positions with rejects, in chunks of one, far apart or not; progress where there are none."""
    frames = [before(4, 1, at, last=False) for at in range(lost)] + [before(4, 0, lost)]
    told = position = 4
    for step, count in steps:
        position += step
        for index in range(count):
            last = index == count - 1
            frames.append(head(position, 1, index, last=last, after=told))
        if not count:
            frames.append(progress(position, after=told))
        told = position
    gone = data.draw(st.integers(0, len(frames) - 1))
    mark, taken = NOTHING, []
    try:
        for number, frame in enumerate(frames):
            if number != gone:
                mark = take(mark, frame)[1]
                taken.append(number)
    except Rewind:
        pass
    assert taken == [*range(gone)], "what follows the lost frame was taken"
