"""Generations: which record an offset means, over recreated and truncated topics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.core.offsets import Offsets
from operators.core.watermark import EventClock
from sda_pipeline.limits import LIFE_BITS
from sda_pipeline.records.frames import Part
from sda_pipeline.records.generations import begun_anew, follows, life_of

LIVES = st.integers(0, (1 << LIFE_BITS) - 1)
GENERATIONS = st.integers(0, (1 << 32) - 1)


@given(GENERATIONS, LIVES)
def test_beginning_anew_is_another_generation_of_that_life(before: int, life: int) -> None:
    after = begun_anew(before, life)
    assert after != before
    assert 0 <= after < 1 << 32, "it is stored as u4"
    assert life_of(after) == life
    assert follows(after, before)
    assert not follows(before, after)


@given(GENERATIONS, st.lists(LIVES, min_size=1, max_size=100))
def test_a_hundred_times_in_a_row_are_all_different(before: int, lives: list[int]) -> None:
    found = [before]
    for life in lives:
        found.append(begun_anew(found[-1], life))
    assert len({*found}) == len(found)
    assert all(follows(after, before) for after in found)


@given(GENERATIONS)
def test_a_changed_life_alone_does_not_follow(generation: int) -> None:
    assert follows(generation, generation)
    assert not follows(generation ^ 1, generation)


def located(*steps: tuple[int, int, int | None], at: int = 100) -> tuple[Offsets, int]:
    """After (life, start, end) one after the other; how many are missing in all."""
    offsets, missing = Offsets((Part(0, 5, at, 0),)), 0
    for life, start, end in steps:
        counts = offsets.locate(0, life, start, end)
        assert counts.read == counts.missing
        missing += counts.missing
    return offsets, missing


@pytest.mark.parametrize(
    ("step", "at", "times", "missing"),
    [
        ((5, 0, None), 100, 0, 0),
        ((5, 100, 100), 100, 0, 0),
        ((5, 130, 200), 130, 0, 30),  # retention
        ((5, 0, 99), 0, 1, 0),  # truncated
        ((5, 20, 99), 20, 1, 20),  # truncated, and its beginning is gone
        ((6, 0, None), 0, 1, 0),  # recreated
        ((6, 7, 500), 7, 1, 7),  # recreated, and its beginning is gone
    ],
)
def test_where_it_goes_on(
    step: tuple[int, int, int | None], at: int, times: int, missing: int
) -> None:
    offsets, lost = located(step)
    assert (offsets.next[0], lost) == (at, missing)
    assert offsets.generations[0] == times << LIFE_BITS | step[0]
    assert located(step, (step[0], step[1], None))[0].generations == offsets.generations


@pytest.mark.parametrize(
    ("step", "missing"),
    [
        ((5, 0, 130), 0),  # all as it was: it is still to come
        ((5, 120, 130), 20),  # retention took a part of it
        ((5, 0, 99), 0),  # truncated: what was seen may be of the new history
        ((6, 0, None), 30),  # recreated
        ((6, 7, 500), 37),
    ],
)
def test_what_was_unread_in_a_life_that_ended_is_missing(
    step: tuple[int, int, int | None], missing: int
) -> None:
    offsets = Offsets((Part(0, 5, 100, 0),))
    counts = offsets.locate(0, *step, unread=30)
    assert (counts.read, counts.missing) == (missing, missing)


def test_no_identity_repeats_when_a_topic_is_truncated_twice() -> None:
    once, _ = located((5, 0, 50))
    twice, _ = located((5, 0, 50), at=200)
    again, _ = located((5, 0, 50), (5, 0, -1))
    assert once.generations == twice.generations != again.generations


def test_a_partition_never_seen_begins_at_the_start_with_nothing_missing() -> None:
    offsets = Offsets(())
    clock = EventClock(0, 0)
    clock.add(3)
    assert offsets.locate(3, 9, 40).read == 0
    assert offsets.parts(clock) == (Part(3, 9, 40, 0),)
