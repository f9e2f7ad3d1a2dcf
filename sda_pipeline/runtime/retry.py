"""When to try again: decorrelated jitter and a circuit breaker. Pure: clock and chance are
arguments.

Not what is worth trying again; the errors say that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sda_pipeline.limits import (
    REMOTE_BACKOFF_FIRST_S,
    REMOTE_BACKOFF_MAX_S,
    REMOTE_FAILURES_MAX,
    REMOTE_OPEN_FIRST_S,
    REMOTE_OPEN_MAX_S,
    SECOND_NS,
)
from sda_pipeline.vocabulary import BreakerState

Chance = Callable[[], float]  # uniform in [0, 1)


@dataclass
class Jitter:
    """Waits that grow, each drawn between the first and three times the one before.

    Two that failed together do not come back together (Brooker 2015, "decorrelated jitter").
    """

    chance: Chance
    first_s: float = REMOTE_BACKOFF_FIRST_S
    max_s: float = REMOTE_BACKOFF_MAX_S
    _last_s: float = field(default=0.0, init=False)

    def next_s(self) -> float:
        """How long to wait now, seconds; at most ``max_s``."""
        high = max(self.first_s, 3.0 * self._last_s)
        self._last_s = min(self.max_s, self.first_s + self.chance() * (high - self.first_s))
        return self._last_s

    def reset(self) -> None:
        """It worked: begin anew."""
        self._last_s = 0.0


class Breaker:
    """Closed while calls succeed; open after ``threshold`` failures in a row, for a while that
    grows; then one trial decides.
    """

    def __init__(
        self, chance: Chance, threshold: int = REMOTE_FAILURES_MAX,
        open_first_s: float = REMOTE_OPEN_FIRST_S, open_max_s: float = REMOTE_OPEN_MAX_S,
    ) -> None:  # fmt: skip
        self._threshold = threshold
        self._between = Jitter(chance)
        self._open_for = Jitter(chance, open_first_s, open_max_s)
        self._failures = 0
        self._again_at = 0
        self.state = BreakerState.CLOSED

    def due_ns(self) -> int:
        """Monotonic time from which a call may be made; 0: at once."""
        return self._again_at

    def may_call(self, now_ns: int) -> bool:
        """Whether to call now; an open breaker whose time is over becomes half-open."""
        if now_ns < self._again_at:
            return False
        if self.state is BreakerState.OPEN:
            self.state = BreakerState.HALF_OPEN
        return True

    def succeeded(self) -> None:
        """The call went through."""
        self.state, self._failures, self._again_at = BreakerState.CLOSED, 0, 0
        self._between.reset()
        self._open_for.reset()

    def failed(self, now_ns: int) -> None:
        """The call failed: wait a little, or open."""
        self._failures += 1
        opens = self.state is BreakerState.HALF_OPEN or self._failures >= self._threshold
        if opens:
            self.state = BreakerState.OPEN
        wait_s = (self._open_for if opens else self._between).next_s()
        self._again_at = now_ns + round(wait_s * SECOND_NS)
