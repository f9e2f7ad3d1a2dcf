"""Backoff, restart budget and rewind budget."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sda_pipeline.limits import REWINDS_MAX_PER_MINUTE, SECOND_NS
from supervisor.policy import Deaths, RestartPolicy, Rewinds, describe_exit

POLICY = RestartPolicy(backoff_s=0.05, backoff_max_s=2.0, budget_deaths=20, budget_window_s=60.0)
SHORT, LONG = 0, 3 * SECOND_NS


def test_the_delay_doubles_to_its_maximum() -> None:
    deaths = Deaths(POLICY)
    delays = [deaths.note(i * SECOND_NS, SHORT) for i in range(8)]
    assert delays == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_a_long_life_ends_the_doubling() -> None:
    deaths = Deaths(POLICY)
    assert [deaths.note(i * SECOND_NS, SHORT) for i in range(4)][-1] == 0.4
    assert deaths.note(9 * SECOND_NS, LONG) == 0.05
    assert deaths.note(10 * SECOND_NS, SHORT) == 0.1


def test_the_budget_is_spent_by_the_last_death_within_the_window() -> None:
    deaths = Deaths(POLICY)
    delays = [deaths.note(i * SECOND_NS, LONG) for i in range(20)]
    assert None not in delays[:19]
    assert delays[19] is None
    assert deaths.recent == 20


@given(st.lists(st.integers(0, 20 * SECOND_NS), max_size=80), st.integers(1, 6))
def test_spent_exactly_when_so_many_deaths_are_near(gaps: list[int], budget: int) -> None:
    deaths = Deaths(RestartPolicy(0.05, 2.0, budget, 60.0))
    times: list[int] = []
    for gap in gaps:
        times.append((times[-1] if times else 0) + gap)
        near = [at for at in times if at > times[-1] - 60 * SECOND_NS]
        delay = deaths.note(times[-1], SHORT)
        assert (delay is None) == (len(near) >= budget)
        assert delay is None or 0.05 <= delay <= 2.0


def test_a_fourth_rewind_within_a_minute_is_too_many() -> None:
    rewinds = Rewinds()
    assert [rewinds.note(i * SECOND_NS) for i in range(4)] == [True, True, True, False]
    assert REWINDS_MAX_PER_MINUTE == 3
    spread = Rewinds()
    assert all(spread.note(i * 21 * SECOND_NS) for i in range(10))
    assert spread.count == 10


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exit code 0"),
        (9, "exit code 9"),
        (-9, "killed by SIGKILL"),
        (-99, "killed by signal 99"),
    ],
)
def test_an_exit_in_words(code: int, text: str) -> None:
    assert describe_exit(code) == text


@pytest.mark.parametrize("life_s", [0.0, 0.5, 1.0, 1.5, 1.7, 2.5, 5.0, 9.9])
@pytest.mark.parametrize("ready_s", [0.0, 0.5, 2.1, 9.9])
def test_a_loop_of_lives_in_vain_ends_however_slow_each_is(life_s: float, ready_s: float) -> None:
    deaths, now, count = Deaths(POLICY), 0, 0
    while True:
        now += round((life_s + ready_s) * SECOND_NS)
        delay = deaths.note(now, round(ready_s * SECOND_NS))
        count += 1
        if delay is None:
            break
        now += round(delay * SECOND_NS)
    assert count <= 60
    assert re.fullmatch(r"\d+ deaths (within 60 s|in a row without any progress)", deaths.why)


def test_lives_that_achieve_something_or_last_are_not_in_vain() -> None:
    slow = 4 * SECOND_NS
    deaths = Deaths(POLICY)
    assert all(deaths.note(i * slow, SHORT, progressed=i % 50 == 0) for i in range(500))
    lasting = Deaths(POLICY)
    assert all(lasting.note(i * 11 * SECOND_NS, 11 * SECOND_NS) for i in range(500))
