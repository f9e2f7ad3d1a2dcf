"""Event time of one source: per-partition watermarks, lateness, idleness (DESIGN 8). Pure: times
come in.

A row is late as a function of its partition's content in offset order (and of the idle markers in
the log):
batches, kills and timing do not change it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sda_pipeline.limits import SECOND_NS

NONE = 0  # the watermark of a partition that has shown nothing yet; below any event time in use
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
        self._since: dict[int, tuple[int, int]] = {}  # partition -> (monotonic, W_p) at its start
        self._confirmed = 0
        self._marked = 0

    def busy(self) -> None:
        """The source is blocked or the broker did not answer: nothing is idle."""
        self._since.clear()

    def observe(
        self, now_ns: int, wall_ns: int, lag: dict[int, int], clock: EventClock
    ) -> dict[int, int]:
        """The broker answered ``lag`` by partition at monotonic ``now_ns``: the marks due, often
        none.

        A partition that is not at lag 0, or whose watermark moved, starts over. When all are idle
        each gets
        its own mark; one that is idle while others flow gets the minimum of the others.
        """
        if self._after is None:
            return {}
        if now_ns - self._confirmed > CONFIRM_WITHIN_NS:
            self._since.clear()
        self._confirmed = now_ns
        for partition, behind in lag.items():
            mark = clock.watermarks.get(partition, NONE)
            began = self._since.get(partition)
            if behind:
                self._since.pop(partition, None)
            elif began is None:
                self._since[partition] = (now_ns, mark)
        idle = [p for p, (began, _) in self._since.items() if now_ns - began >= self._after]
        if not idle or now_ns - self._marked < CONFIRM_WITHIN_NS:
            return {}
        self._marked = now_ns
        if len(idle) == len(lag):
            return {p: self._own_mark(p, now_ns, wall_ns, clock) for p in idle}
        others = [clock.watermarks.get(p, NONE) for p in lag if p not in idle]
        return {p: min(others) for p in idle if min(others) > clock.watermarks.get(p, NONE)}

    def _own_mark(self, partition: int, now_ns: int, wall_ns: int, clock: EventClock) -> int:
        began, mark = self._since[partition]
        if mark == NONE:
            return clock.never_seen(wall_ns)
        return mark + (now_ns - began)

    def consumed(self, partitions: set[int]) -> None:
        """Messages arrived on these partitions: their idleness is over."""
        for partition in partitions:
            self._since.pop(partition, None)
