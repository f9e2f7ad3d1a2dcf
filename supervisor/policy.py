"""When a dead operator comes back, and when it does not. Pure: times come in as monotonic ns."""

from __future__ import annotations

import signal
from collections import deque
from dataclasses import dataclass, field

from sda_pipeline.limits import REWINDS_MAX_PER_MINUTE, SECOND_NS

DRAIN_PATIENT_S = 300.0  # 'drain' waits so much longer than 'stop' before it kills what is left
REWIND_WINDOW_S = 60.0
SHORT_LIFE_S = 10.0  # being ready for less, and putting nothing behind it, is no recovery
SHORT_LIVES_PER_BUDGET = 3  # so many budgets of such lives in a row are enough, however slow


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
    _in_vain: int = 0  # lives in a row that were short and made nothing durable

    def note(
        self, now: int, ready_for_ns: int, spared: int = 0, *, progressed: bool = False
    ) -> float | None:
        """Count a death; the delay in seconds before the successor, None when the budget is spent.

        ``ready_for_ns`` is how long the dead one had been ready. A life longer than the longest
        delay ends a row of short ones; it stays in the budget. The last ``spared`` deaths do not
        count now: they may yet be forgiven. Lives that start so slowly that the window never fills
        are counted by what they achieve: nothing ``progressed``.
        """
        policy = self.policy
        self._recent.append(now)
        _forget(self._recent, now, policy.budget_window_s)
        achieved = progressed or ready_for_ns > SHORT_LIFE_S * SECOND_NS
        self._in_vain = 1 if achieved else self._in_vain + 1
        if len(self._recent) - spared >= policy.budget_deaths:
            return None
        if self._in_vain - spared >= SHORT_LIVES_PER_BUDGET * policy.budget_deaths:
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
        self._in_vain = max(0, self._in_vain - count)

    @property
    def recent(self) -> int:
        """Deaths within the window at the last one."""
        return len(self._recent)

    @property
    def why(self) -> str:
        """What has spent the budget, in words."""
        if len(self._recent) >= self.policy.budget_deaths:
            return f"{self.recent} deaths within {self.policy.budget_window_s:g} s"
        return f"{self._in_vain} deaths in a row without any progress"


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
