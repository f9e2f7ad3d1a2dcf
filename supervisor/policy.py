"""When a dead operator comes back, and when it does not. Pure: times come in as monotonic ns."""

from __future__ import annotations

import signal
from collections import deque
from dataclasses import dataclass, field

from sda_pipeline.limits import REWINDS_MAX_PER_MINUTE, SECOND_NS

DRAIN_PATIENT_S = 300.0  # 'drain' waits so much longer than 'stop' before it kills what is left
REWIND_WINDOW_S = 60.0


@dataclass(frozen=True)
class RestartPolicy:
    """Backoff and budget of one operator (SPEC 11), seconds."""

    backoff_s: float
    backoff_max_s: float
    budget_deaths: int
    budget_window_s: float


@dataclass
class Deaths:
    """The deaths of one operator that nobody asked for."""

    policy: RestartPolicy
    _recent: deque[int] = field(default_factory=deque)
    _strikes: int = 0  # deaths in a row, each after a short life; the delay doubles with them

    def note(self, now: int, ready_for_ns: int, spared: int = 0) -> float | None:
        """Count a death; the delay in seconds before the successor, None when the budget is spent.

        ``ready_for_ns`` is how long the dead one had been ready. A life longer than the longest
        delay ends a row of short ones; it stays in the budget. The last ``spared`` deaths do not
        count now: they may yet be forgiven.
        """
        policy = self.policy
        self._recent.append(now)
        _forget(self._recent, now, policy.budget_window_s)
        if len(self._recent) - spared >= policy.budget_deaths:
            return None
        if ready_for_ns > policy.backoff_max_s * SECOND_NS:
            self._strikes = 0
        delay = min(policy.backoff_s * 2.0 ** min(self._strikes, 60), policy.backoff_max_s)
        self._strikes += 1
        return delay

    def forgive(self, count: int) -> None:
        """The last ``count`` deaths were a record's doing, which is out of the way now."""
        for _ in range(min(count, len(self._recent))):
            self._recent.pop()
        self._strikes = max(0, self._strikes - count)

    @property
    def recent(self) -> int:
        """Deaths within the window at the last one."""
        return len(self._recent)


@dataclass
class Rewinds:
    """Rewinds of the whole tree: so many a minute, then a person must look."""

    allowed: int = REWINDS_MAX_PER_MINUTE
    count: int = 0
    _recent: deque[int] = field(default_factory=deque)

    def note(self, now: int) -> bool:
        """Count one; False when there are more than are allowed within a minute."""
        self.count += 1
        self._recent.append(now)
        _forget(self._recent, now, REWIND_WINDOW_S)
        return len(self._recent) <= self.allowed

    @property
    def recent(self) -> int:
        """Rewinds within the minute before the last one."""
        return len(self._recent)


def describe_exit(returncode: int) -> str:
    """What a process's end says, in words; a negative code is the signal that killed it."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


def _forget(times: deque[int], now: int, window_s: float) -> None:
    while times and times[0] <= now - window_s * SECOND_NS:
        times.popleft()
