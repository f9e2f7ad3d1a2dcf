"""Decorrelated jitter and the breaker, by a clock and a chance of the test's own."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pytest

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.runtime.retry import Breaker, Jitter
from sda_pipeline.vocabulary import BreakerState

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


@pytest.mark.parametrize(
    ("chance", "waits"),
    [
        (0.0, [1.0, 1.0, 1.0, 1.0]),  # never below the first
        (1.0 - 2.0**-53, [1.0, 3.0, 9.0, 10.0]),  # at most three times the last, then the cap
        (0.5, [1.0, 2.0, 3.5, 5.75]),
    ],
)
def test_each_wait_is_drawn_between_the_first_and_three_times_the_last(
    chance: float, waits: list[float]
) -> None:
    jitter = Jitter(lambda: chance, first_s=1.0, max_s=10.0)
    assert [jitter.next_s() for _ in waits] == pytest.approx(waits)
    jitter.reset()
    assert jitter.next_s() == pytest.approx(1.0)


def test_no_wait_leaves_its_bounds() -> None:
    rng = np.random.default_rng(1)
    jitter = Jitter(rng.random, first_s=0.5, max_s=8.0)
    waits = [jitter.next_s() for _ in range(1000)]
    assert min(waits) >= 0.5
    assert max(waits) <= 8.0
    assert len({*waits}) > 500, "they spread"


def breaker() -> Breaker:
    return Breaker(lambda: 0.0, threshold=3, open_first_s=10.0, open_max_s=60.0)


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    found, now = breaker(), 0
    for failures in (1, 2, 3):
        assert found.may_call(now)
        found.failed(now)
        assert found.state is (OPEN if failures == 3 else CLOSED)
        assert not found.may_call(now), "not at once"
        now = found.due_ns()
    assert now >= 10 * SECOND_NS


def test_a_success_in_between_begins_the_count_anew() -> None:
    found, now = breaker(), 0
    for fails in cycle([True, True, False]):
        assert found.may_call(now)
        if fails:
            found.failed(now)
        else:
            found.succeeded()
        assert found.state is CLOSED
        now = max(now + SECOND_NS, found.due_ns())
        if now > 100 * SECOND_NS:
            break


@pytest.mark.parametrize("works", [True, False])
def test_one_trial_decides(works: bool) -> None:
    found, now = breaker(), 0
    for _ in range(3):
        found.failed(now)
    assert not found.may_call(found.due_ns() - 1)
    now = found.due_ns()
    assert found.may_call(now)
    assert found.state is HALF_OPEN
    if works:
        found.succeeded()
        assert (found.state, found.due_ns()) == (CLOSED, 0)
    else:
        found.failed(now)
        assert found.state is OPEN, "a single failure is enough now"
        assert found.due_ns() > now
