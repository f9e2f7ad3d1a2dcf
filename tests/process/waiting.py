"""Wait for a condition with a bound, never for a time."""

from __future__ import annotations

from collections.abc import Callable

from sda_pipeline.clock import SystemClock

WITHIN_S = 60.0
LOOK_EVERY_S = 0.05


def wait_until(
    condition: Callable[[], object], story: Callable[[], str], within_s: float = WITHIN_S
) -> None:
    """Return as soon as ``condition`` holds; fail with the story when it does not in time."""
    clock = SystemClock()
    deadline = clock.monotonic_ns() + round(within_s * 1e9)
    while not condition():
        if clock.monotonic_ns() > deadline:
            raise AssertionError(f"did not happen within {within_s} s:\n{story()}")
        clock.sleep(LOOK_EVERY_S)
