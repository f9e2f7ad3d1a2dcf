"""Holds a long write to a rate, so that what is beside it gets the disk too. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable

from sda_pipeline.clock import Clock
from sda_pipeline.limits import SECOND_NS


class Pace:
    """Made when the write begins, called after each piece of it; ``hurry``: no more waiting."""

    def __init__(self, clock: Clock, bytes_per_s: int, hurry: Callable[[], bool]) -> None:
        self._clock, self._bytes_per_s, self._hurry = clock, bytes_per_s, hurry
        self._began = clock.monotonic_ns()

    def __call__(self, written: int) -> None:
        """Wait until so many bytes in all are due."""
        due = self._began + written * SECOND_NS // self._bytes_per_s
        left = due - self._clock.monotonic_ns()
        if left > 0 and not self._hurry():
            self._clock.sleep(left / SECOND_NS)
