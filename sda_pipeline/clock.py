"""The one door to time. Pure code takes times as arguments; shells take a Clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for records people read, monotonic time for every duration."""

    def wall_ns(self) -> int:
        """UTC, nanoseconds since 1970."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary start; never goes back."""

    def sleep(self, seconds: float) -> None:
        """Block for so long."""


class SystemClock:
    """The machine's clocks."""

    def wall_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class ManualClock:
    """A clock moved by hand, for tests and simulation."""

    def __init__(self, wall_ns: int = 0, monotonic_ns: int = 0) -> None:
        self._wall, self._monotonic = wall_ns, monotonic_ns

    def wall_ns(self) -> int:
        return self._wall

    def monotonic_ns(self) -> int:
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        self.advance(round(seconds * 1e9))

    def advance(self, ns: int) -> None:
        """Move both clocks forward by ``ns``."""
        self._wall += ns
        self._monotonic += ns
