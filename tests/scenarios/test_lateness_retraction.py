"""Rows inside the allowed lateness change alerts, rows beyond it are counted and change nothing.

Scripts with pinned answers, see lateness_script.py for how to read them; then the same observations
in other batches. The wrong ways to be late are the controls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from operators.core.watermark import EventClock
from tests.scenarios.inline_pipeline import World
from tests.scenarios.lateness_script import (
    Pipeline,
    name_of,
    observations_of,
    run_script,
    world,
)

Marks: TypeAlias = npt.NDArray[np.int64]

CHANGES = """\
# Late on a partition is what lies more than 1 s (max lateness) + 5 s (allowed) behind the newest
# row accepted there before it. Both objects report to be on their elements: 698 m apart.
a p0 -29.0 cosmos catalogued 30
b p1 -28.0 iridium catalogued 30
deliver
    frame 1: a b; watermarks p0 -30.000, p1 -29.000
step
    1.1 insert WATCH, miss 698 m, pane -5, 1 + 1 rows

# Cosmos seems to head for Iridium: a higher level is emitted at once, as a pair.
c p0 -20.0 cosmos hit 3
deliver
    frame 2: c; watermarks p0 -21.000, p1 -29.000
step
    1.2 retract 1.1: level_changed
    1.3 insert RED, miss 7 m, pane -4, 2 + 1 rows

# p0 takes rows from -26 on. One just inside, better than c, takes the danger back; but a lower
# level waits until event time has passed pane -4, which ends at -19.8. p1 stands at -29.
d p0 -25.9 cosmos catalogued 1
deliver
    frame 3: d; watermarks p0 -21.000, p1 -29.000
step
    nothing to say

# It passes when both partitions have moved on; that takes no row of the pair.
e p0 -13.0 bystander catalogued 30
deliver
    frame 4: e; watermarks p0 -14.000, p1 -29.000
step
    nothing to say
f p1 -18.5 bystander catalogued 30
deliver
    frame 5: f; watermarks p0 -14.000, p1 -19.500
step
    1.4 retract 1.3: level_changed
    1.5 insert WATCH, miss 628 m, pane -4, 3 + 1 rows

# p0 now takes rows from -19 on, p1 from -24.5 on. The same news is late on one ...
g p0 -22.0 cosmos hit 0.3
deliver
    frame 6: no rows; watermarks p0 -14.000, p1 -19.500
    late: g
step
    nothing to say

# ... and counts on the other. The correlator dies over it, before its commit: nobody has heard.
h p1 -22.0 cosmos hit 0.3
deliver
    frame 7: h; watermarks p0 -14.000, p1 -19.500
step, killed before the commit
    recovered: 0 entries to publish
step
    1.6 retract 1.5: level_changed
    1.7 insert RED, miss 57 m, pane -4, 4 + 1 rows

# Within a batch the offset decides: i comes before the row that moves the line, k after it.
i p0 -18.9 cosmos catalogued 0.05
j p0 -9.0 bystander catalogued 30
k p0 -18.9 cosmos hit 0.005
l p1 -9.0 bystander catalogued 30
deliver
    frame 8: i j l; watermarks p0 -10.000, p1 -10.000
    late: k

# This time it dies after the commit: the next incarnation says it, in the same words, once.
step, killed after the commit
    recovered: 2 entries to publish
step
    1.8 retract 1.7: level_changed
    1.9 insert WATCH, miss 679 m, pane -3, 5 + 1 rows
step
    nothing to say

# A late row moves no line: after m on p0 the line is still -15.
m p0 -40.0 bystander catalogued 30
n p0 -14.9 iridium catalogued 1
deliver
    frame 9: n; watermarks p0 -10.000, p1 -10.000
    late: m
step
    nothing to say

# END: no accepted row can change the alert any longer. The level stands, so one insert says so.
end
    frame 10: END
step
    1.10 insert WATCH, miss 679 m, pane -3, 5 + 2 rows, final
count
    read 14 = 7 applied, 4 unpaired, 0 duplicate, 3 late
"""

WITHDRAWALS = """\
# WATCH is off here: 698 m between well known objects are of no level.
a p0 -29.0 cosmos catalogued 1
b p0 -28.0 iridium catalogued 1
deliver
    frame 1: a b; watermarks p0 -29.000
step
    nothing to say

c p0 -20.0 cosmos hit 0.1
deliver
    frame 2: c; watermarks p0 -21.000
step
    1.1 insert RED, miss 7 m, pane -4, 2 + 1 rows

# d is in time by 0.1 s and better than c. Event time passes pane -4 with e: withdrawn.
d p0 -25.9 cosmos catalogued 0.01
e p0 -18.0 bystander catalogued 30
deliver
    frame 3: d e; watermarks p0 -19.000
step
    1.2 retract 1.1: below_threshold

# Rows from -24 on are taken now. f says the same as g, but f is late: nothing; g raises it again.
f p0 -24.1 iridium hit 0.01
deliver
    frame 4: no rows; watermarks p0 -19.000
    late: f
step
    nothing to say
g p0 -23.9 iridium hit 0.01
deliver
    frame 5: g; watermarks p0 -19.000
step
    1.3 insert RED, miss 10 m, pane -4, 3 + 2 rows

# h takes it back. What was raised and has no level in the end is retracted once more, final.
h p0 -16.0 iridium catalogued 0.01
deliver
    frame 6: h; watermarks p0 -17.000
step
    nothing to say
end
    frame 7: END
step
    1.4 retract 1.3: below_threshold, final
count
    read 8 = 6 applied, 1 unpaired, 0 duplicate, 1 late
"""


def test_late_rows_change_levels_or_are_counted() -> None:
    assert run_script(CHANGES, Pipeline()) == CHANGES


def test_late_rows_withdraw_and_reinstate() -> None:
    pipeline = Pipeline(world(watch_km=None), ["p0"])
    assert run_script(WITHDRAWALS, pipeline) == WITHDRAWALS
    assert pipeline.finals == []


# --- the same observations, cut differently --------------------------------------------------


class Outcome(NamedTuple):
    """Which observations were late, and the canonical finals."""

    late: tuple[str, ...]
    finals: tuple[str, ...]


def in_batches(sizes: Sequence[int], of: World | None = None) -> Outcome:
    """The observations of CHANGES in batches of these sizes, cycling; a step after each."""
    pipeline = Pipeline(of)
    left, size = observations_of(CHANGES), cycle(sizes)
    while left:
        count = next(size)
        pipeline.waiting, left = left[:count], left[count:]
        run(pipeline.deliver(), pipeline.step())
    run(pipeline.end(), pipeline.step())
    late = sorted(name_of(uuid) for uuid in pipeline.source.late)
    return Outcome(tuple(late), tuple(pipeline.finals))


def run(*commands: Iterable[str]) -> None:
    """Each to its end; what they answer is not looked at."""
    for answers in commands:
        list(answers)


CUTS = ([1], [99], [2], [3], [5, 1], [1, 2, 4], [7])


def outcomes() -> list[Outcome]:
    return [in_batches(sizes) for sizes in CUTS]


def test_the_same_rows_are_late_whatever_the_cut() -> None:
    found = outcomes()
    assert found[0].late == ("g", "k", "m")
    assert len(found[0].finals) == 1
    assert {*found} == {found[0]}


def test_kills_and_late_rows_leave_the_same_final() -> None:
    """As the script told it, with its two deaths; and as if the late rows had never been sent."""
    told, clean = Pipeline(), Pipeline()
    run_script(CHANGES, told)
    clean.waiting = [o for o in observations_of(CHANGES) if o.name not in {"g", "k", "m"}]
    run(clean.deliver(), clean.end(), clean.step())
    assert told.finals == clean.finals == [*in_batches([1]).finals]


def test_rows_that_were_not_dropped_would_show() -> None:
    """The control: with a minute of allowed lateness g and k count, and the alert stays RED."""
    found = in_batches([1], world(allowed_s=60.0))
    assert found.late == ()
    assert found.finals != in_batches([1]).finals
    assert "('level', 'RED')" in found.finals[0]


def test_lateness_by_batch_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a clock that judges a batch by what came before it, or by its newest row."""
    judge = EventClock.judge

    def by_the_batches_before(self: EventClock, partition: Marks, t: Marks) -> Marks:
        judge(copy := EventClock(self._max_lateness, self._allowed, self.watermarks), partition, t)
        marks = np.array([self.watermarks[p] for p in partition.tolist()])
        self.watermarks = copy.watermarks
        return t < marks - self._allowed  # type: ignore[no-any-return]

    def by_the_whole_batch(self: EventClock, partition: Marks, t: Marks) -> Marks:
        judge(self, partition, t)
        return t < np.array([self.watermarks[p] for p in partition.tolist()]) - self._allowed  # type: ignore[no-any-return]

    for wrong in (by_the_batches_before, by_the_whole_batch):
        monkeypatch.setattr(EventClock, "judge", wrong)
        assert len({o.late for o in outcomes()}) > 1
