"""DedupSet: what it knows, when it forgets. Compared with a set that remembers everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from operators.core.dedup import DedupSet
from sda_pipeline.limits import DEDUP_ENTRIES_MAX

KEYS = st.tuples(st.sampled_from("abc"), st.integers(1, 4))


def test_it_knows_what_was_added_for_the_window() -> None:
    dedup = DedupSet(window_ns=10)
    dedup.add([("a", 1)], 100)
    assert dedup.known(("a", 1), 109)
    assert not dedup.known(("a", 2), 109)
    assert not dedup.known(("a", 1), 110)
    assert len(dedup) == 0


def test_adding_again_starts_the_window_again() -> None:
    dedup = DedupSet(window_ns=10)
    dedup.add([("a", 1)], 100)
    dedup.add([("a", 1)], 105)
    assert dedup.known(("a", 1), 114)
    assert not dedup.known(("a", 1), 115)


def test_the_oldest_make_room() -> None:
    dedup = DedupSet(window_ns=10, entries_max=2)
    dedup.add([("a", 1), ("a", 2), ("a", 3)], 0)
    assert [dedup.known(("a", n), 0) for n in (1, 2, 3)] == [False, True, True]


def test_the_defaults_are_five_minutes_and_a_hundred_thousand() -> None:
    dedup = DedupSet()
    dedup.add((("a", n) for n in range(DEDUP_ENTRIES_MAX + 1)), 0)
    assert len(dedup) == DEDUP_ENTRIES_MAX == 100_000
    assert not dedup.known(("a", 0), 0)
    assert dedup.known(("a", 1), 299_999_999_999)
    assert not dedup.known(("a", 1), 300_000_000_000)


@given(st.lists(st.tuples(st.booleans(), KEYS, st.integers(0, 6))), st.integers(1, 5))
def test_it_never_knows_what_was_not_added_lately(
    steps: list[tuple[bool, tuple[str, int], int]], entries_max: int
) -> None:
    dedup, added, now = DedupSet(window_ns=10, entries_max=entries_max), {}, 0
    for adding, key, pause in steps:
        now += pause
        if adding:
            dedup.add([key], now)
            added[key] = now
            assert dedup.known(key, now)
        elif dedup.known(key, now):
            assert now - added[key] < 10
        assert len(dedup) <= entries_max
