"""Lateness and idleness by partition, against a plain loop. Not the source's shell."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from operators.core.watermark import NONE, EventClock, IdleTracker
from sda_pipeline.limits import SECOND_NS, SETTLED_NS

MAX_LATENESS, ALLOWED = 10, 5


def judge_by_loop(rows: list[tuple[int, int]]) -> tuple[list[bool], dict[int, int]]:
    """DESIGN 8 word by word, one row at a time."""
    newest: dict[int, int] = {}
    late = []
    for partition, t in rows:
        mark = newest[partition] - MAX_LATENESS if partition in newest else None
        is_late = mark is not None and t < mark - ALLOWED
        late.append(is_late)
        if not is_late:
            newest[partition] = max(newest.get(partition, t), t)
    return late, {p: t - MAX_LATENESS for p, t in newest.items()}


rows_strategy = st.lists(st.tuples(st.integers(0, 2), st.integers(1000, 1100)), max_size=60)


@given(rows_strategy, st.lists(st.integers(0, 60), max_size=5))
def test_lateness_is_a_function_of_content_whatever_the_batch_cuts(
    rows: list[tuple[int, int]], cuts: list[int]
) -> None:
    expected, marks = judge_by_loop(rows)
    clock = EventClock(MAX_LATENESS, ALLOWED)
    found: list[bool] = []
    edges = sorted({0, len(rows), *(c for c in cuts if c <= len(rows))})
    for start, end in pairwise(edges):
        part = rows[start:end]
        partition = np.array([p for p, _ in part], dtype=np.int32)
        t = np.array([t for _, t in part], dtype=np.int64)
        found += clock.judge(partition, t).tolist()
    assert found == expected
    assert clock.watermarks == marks


def test_a_judge_that_forgets_the_rows_before_it_is_caught() -> None:
    rows = [(0, 1100), (0, 1000)]
    expected, _ = judge_by_loop(rows)
    forgetful = [
        bool(EventClock(MAX_LATENESS, ALLOWED).judge(np.array([p], np.int32), np.array([t]))[0])
        for p, t in rows
    ]
    assert forgetful != expected


class Quiet:
    """A source whose broker confirms lag by lag, on a clock moved by hand."""

    def __init__(self, marks: dict[int, int], after_s: float | None = 2.0) -> None:
        self.clock = EventClock(MAX_LATENESS, ALLOWED, marks)
        self.tracker = IdleTracker(None if after_s is None else int(after_s * SECOND_NS))
        self.now = 100 * SECOND_NS

    def look(self, seconds: float, lag: dict[int, int]) -> dict[int, int]:
        self.now += int(seconds * SECOND_NS)
        marks = self.tracker.observe(self.now, 10**18, lag, self.clock)
        self.clock.advance(marks)
        return marks

    def marked(self, lag: dict[int, int], looks: int = 30) -> dict[int, int]:
        """The first marks within so many looks."""
        found = (self.look(0.9, lag) for _ in range(looks))
        return next((marks for marks in found if marks), {})


def test_idle_marker_moves_every_partition_by_the_time_elapsed() -> None:
    quiet = Quiet({0: 1000, 1: 2000})
    assert quiet.look(0, {0: 0, 1: 0}) == {}
    assert quiet.look(0.9, {0: 0, 1: 0}) == {}
    assert quiet.look(0.9, {0: 0, 1: 0}) == {}
    elapsed = int(2.7 * SECOND_NS)
    assert quiet.look(0.9, {0: 0, 1: 0}) == {0: 1000 + elapsed, 1: 2000 + elapsed}


def test_an_outage_is_not_idleness() -> None:
    quiet = Quiet({0: 1000})
    quiet.look(0, {0: 0})
    assert quiet.look(120, {0: 0}) == {}, "nothing confirmed lag 0 in between"


def test_back_pressure_is_not_idleness() -> None:
    quiet = Quiet({0: 1000})
    for _ in range(3):
        quiet.look(0.9, {0: 0})
    quiet.tracker.busy()
    assert quiet.look(0.1, {0: 0}) == {}


def test_waiting_messages_are_not_idleness() -> None:
    quiet = Quiet({0: 1000})
    assert [quiet.look(0.9, {0: 1}) for _ in range(6)] == [{}] * 6


def test_a_quiet_partition_takes_the_minimum_of_the_others() -> None:
    quiet = Quiet({0: 1000, 1: 5000, 2: 7000})
    assert quiet.marked({0: 0, 1: 3, 2: 3}) == {0: 5000}


def test_it_does_so_only_when_no_producer_is_on_its_way_back() -> None:
    quiet = Quiet({0: 1000, 1: 5000})
    looks = SETTLED_NS // SECOND_NS + 1
    for _ in range(3):
        for _ in range(looks):
            assert quiet.look(0.9, {0: 0, 1: 3}) == {}
        quiet.tracker.away()
    assert quiet.marked({0: 0, 1: 3}) == {0: 5000}
    for _ in range(looks):
        quiet.look(0.9, {0: 0, 1: 3})
        quiet.tracker.busy()  # that is no outage
    quiet.clock.watermarks[1] = 6000
    assert quiet.marked({0: 0, 1: 3}, looks=4) == {0: 6000}
    quiet.clock.watermarks[1] = 7000
    quiet.look(60, {0: 0, 1: 3})  # nobody looked; the broker may have been away
    assert quiet.marked({0: 0, 1: 3}, looks=10) == {}


def test_one_that_never_spoke_does_so_at_once() -> None:
    quiet = Quiet({0: NONE, 1: 5000})
    assert quiet.marked({0: 0, 1: 3}, looks=4) == {0: 5000}


def test_a_partition_without_history_takes_the_wall_clock() -> None:
    quiet = Quiet({0: NONE})
    marks = [quiet.look(0.9, {0: 0}) for _ in range(5)]
    assert {0: 10**18 - MAX_LATENESS} in marks


def test_off_means_off() -> None:
    quiet = Quiet({0: 1000}, after_s=None)
    assert [quiet.look(0.9, {0: 0}) for _ in range(10)] == [{}] * 10


def test_a_new_partition_starts_at_the_source_watermark() -> None:
    clock = EventClock(MAX_LATENESS, ALLOWED, {0: 1000, 1: 2000})
    clock.add(2)
    assert clock.watermarks[2] == 1000
