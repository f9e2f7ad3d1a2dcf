"""Event time of one source: per-partition watermarks, lateness, idleness (DESIGN 8). Pure: times
come in.

A row is late as a function of its partition's content in offset order (and of the idle markers in
the log):
batches, kills and timing do not change it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from sda_pipeline.limits import SECOND_NS, SETTLED_NS

NONE = 0  # the watermark of a partition that has shown nothing yet; below any event time in use
NEVER = -(1 << 62)  # monotonic: longer ago than any bound
CONFIRM_WITHIN_NS = 1 * SECOND_NS  # an idleness not confirmed for so long has ended


class EventClock:
    """Watermarks by partition. ``max_lateness_ns`` of the kind, ``allowed_ns`` of the pipeline."""

    def __init__(
        self, max_lateness_ns: int, allowed_ns: int, watermarks: dict[int, int] | None = None
    ) -> None:
        self._max_lateness, self._allowed = max_lateness_ns, allowed_ns
        self.watermarks: dict[int, int] = dict(watermarks or {})

    def add(self, partition: int) -> None:
        """A new partition starts at the source's watermark."""
        if partition not in self.watermarks:
            self.watermarks[partition] = self.source_watermark()

    def source_watermark(self) -> int:
        """Minimum over the partitions; NONE until each has shown something."""
        return min(self.watermarks.values(), default=NONE)

    def judge(
        self, partition: npt.NDArray[np.int32], t: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Which of these rows (m,), in offset order per partition, are late. Moves the watermarks.

        W_p = max accepted event time - max_lateness; a row is late when its time is below the W_p
        of the
        rows before it minus the allowed lateness. A late row is below the maximum, so it never
        moves it.
        """
        late = np.zeros(len(t), dtype=np.bool_)
        for number in np.unique(partition).tolist():
            here = partition == number
            times, before = t[here], self.watermarks.get(number, NONE)
            reached = np.maximum.accumulate(times) - self._max_lateness
            marks = np.maximum(np.concatenate(([before], reached)), before)
            late[here] = times < marks[:-1] - self._allowed
            self.watermarks[number] = int(marks[-1])
        return late

    def advance(self, marks: dict[int, int]) -> None:
        """Apply an idle marker: watermarks only rise."""
        for partition, mark in marks.items():
            self.watermarks[partition] = max(self.watermarks.get(partition, NONE), mark)

    def never_seen(self, wall_ns: int) -> int:
        """The watermark an idle partition without history takes: the only use of the wall clock."""
        return wall_ns - self._max_lateness


class IdleTracker:
    """Decides when an idle marker is due, from what the broker confirms.

    Off when ``idle_after_ns`` is None.
    """

    def __init__(self, idle_after_ns: int | None) -> None:
        self._after = idle_after_ns
        self._since: dict[int, int] = {}  # partition -> since when it is idle, monotonic
        # Since when all of them are, and the watermarks at that time.
        self._together: tuple[int, dict[int, int]] | None = None
        self._confirmed = NEVER
        self._answers_since = NEVER  # without a silence as long as an outage's
        self._marked = 0

    def busy(self) -> None:
        """The source is blocked: nothing is idle."""
        self._since.clear()
        self._together = None

    def away(self) -> None:
        """The broker did not answer: nothing is idle, and whoever sends to it may come back after
        it, some later than others.
        """
        self.busy()
        self._confirmed = NEVER

    def consumed(self, partitions: Iterable[int]) -> None:
        """Messages arrived on these partitions: their idleness is over."""
        for partition in partitions:
            if self._since.pop(partition, None) is not None:
                self._together = None

    def observe(
        self, now_ns: int, wall_ns: int, lag: dict[int, int], clock: EventClock
    ) -> dict[int, int]:
        """The broker answered ``lag`` by partition at monotonic ``now_ns``: the marks due, often
        none.

        When all partitions are idle each gets its own mark: where it stood when the last of them
        fell idle, and the time since. One that is idle while others flow gets the minimum of these;
        one with history only once the broker has answered for so long that no producer is still on
        its way back, for that may be a leap over all of an outage.
        """
        if self._after is None:
            return {}
        if now_ns - self._confirmed > SETTLED_NS:
            self._answers_since = now_ns
        if now_ns - self._confirmed > CONFIRM_WITHIN_NS:
            self.busy()
        self._confirmed = now_ns
        self._note(now_ns, lag, clock)
        if now_ns - self._marked < CONFIRM_WITHIN_NS:
            return {}
        marks = self._due(now_ns, wall_ns, lag, clock)
        if marks:
            self._marked = now_ns
        return marks

    def _note(self, now_ns: int, lag: dict[int, int], clock: EventClock) -> None:
        for partition, behind in lag.items():
            if behind:
                self.consumed((partition,))
            elif partition not in self._since:
                self._since[partition] = now_ns
                self._together = None
        if self._together is None and self._since.keys() >= lag.keys():
            self._together = now_ns, {p: clock.watermarks.get(p, NONE) for p in lag}

    def _due(
        self, now_ns: int, wall_ns: int, lag: dict[int, int], clock: EventClock
    ) -> dict[int, int]:
        assert self._after is not None, "the caller has looked"
        if self._together is not None and now_ns - self._together[0] >= self._after:
            began, marks = self._together
            return {
                partition: clock.never_seen(wall_ns) if mark == NONE else mark + (now_ns - began)
                for partition, mark in marks.items()
            }
        settled = now_ns - self._answers_since >= SETTLED_NS
        idle = {p for p, began in self._since.items() if now_ns - began >= self._after}
        stands = {p: clock.watermarks.get(p, NONE) for p in lag}
        lowest = min((stands[p] for p in lag if p not in idle), default=NONE)
        return {p: lowest for p in idle if lowest > stands[p] and (settled or stands[p] == NONE)}
