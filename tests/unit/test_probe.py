"""The record that kills is found by a child that may die; nothing else is harmed or accused."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import psutil
import pytest

from sda_pipeline.clock import SystemClock
from sda_pipeline.runtime.probe import Killer, first_killer
from tests.process.waiting import wait_until

CLOCK = SystemClock()
PLENTY_S = 30.0


def attempts(
    bad: int, how: Callable[[], None], seen: list[int] | None = None
) -> Callable[..., None]:
    def attempt(number: int) -> None:
        if seen is not None:
            seen.append(number)
        if number == bad:
            how()

    return attempt


def by_signal() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def by_error() -> None:
    raise ValueError("no\nsuch thing")


def by_exit() -> None:
    os._exit(3)


def by_leaving() -> None:
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (by_signal, "its probe was killed by SIGKILL"),
        (by_error, "ValueError: no\nsuch thing"),
        (by_exit, "its probe ended with exit code 3"),
        (by_leaving, "SystemExit: 0"),
    ],
)
@pytest.mark.parametrize("bad", [0, 7, 499])
def test_the_record_is_found(bad: int, how: Callable[[], None], why: str) -> None:
    found = first_killer(500, attempts(bad, how), CLOCK, within_s=PLENTY_S)
    assert found == Killer(bad, why)


def test_nothing_is_found_where_nothing_is() -> None:
    seen: list[int] = []
    count = 100_000  # more than a pipe holds
    assert first_killer(count, attempts(-1, by_signal, seen), CLOCK, within_s=PLENTY_S) is None
    assert seen == [], "the child's memory is its own"
    assert first_killer(0, attempts(0, by_signal), CLOCK, within_s=PLENTY_S) is None


def test_a_death_before_the_first_record_accuses_nobody() -> None:
    for how in (by_signal, by_error):
        found = first_killer(3, attempts(0, by_signal), CLOCK, prepare=how, within_s=PLENTY_S)
        assert found is None


def test_a_record_that_hangs_is_found_and_the_parent_stays_alive_meanwhile() -> None:
    beats: list[int] = []
    found = first_killer(
        9,
        attempts(4, lambda: CLOCK.sleep(3600)),
        CLOCK,
        beat=lambda: beats.append(1),
        within_s=1.2,
    )
    assert found == Killer(4, "its probe hung for 1.2 s")
    assert len(beats) >= 3


def test_the_child_does_not_outlive_its_parent() -> None:
    receive, send = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.close(receive)

        def attempt(_number: int) -> None:
            os.write(send, os.getpid().to_bytes(8, "little"))
            CLOCK.sleep(3600)

        first_killer(1, attempt, CLOCK, within_s=3600.0)
        os._exit(0)
    os.close(send)
    child = int.from_bytes(os.read(receive, 8), "little")
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    # Its end of the pipe closes with it: end of file only when it is gone.
    os.set_blocking(receive, False)

    def closed() -> bool:
        try:
            return os.read(receive, 8) == b""
        except BlockingIOError:
            return False

    wait_until(closed, lambda: f"the probe {child} lives on")
    os.close(receive)


def test_an_exception_in_the_parent_leaves_no_child() -> None:
    def beat() -> None:
        raise KeyboardInterrupt

    before = {child.pid for child in psutil.Process().children()}  # servers of other tests
    with pytest.raises(KeyboardInterrupt):
        first_killer(1, attempts(0, lambda: CLOCK.sleep(3600)), CLOCK, beat=beat, within_s=PLENTY_S)
    assert {child.pid for child in psutil.Process().children()} <= before
