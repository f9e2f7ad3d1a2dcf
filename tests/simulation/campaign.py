"""Many schedules: from a seed to its world, and the sums over a campaign. Not one schedule's doing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from tests.simulation import outcome
from tests.simulation.dice import Dice
from tests.simulation.fault_plan import FaultPlan, Point, draw_plan
from tests.simulation.story import STORIES, story
from tests.simulation.world import World

CALM_SEEDS = 8  # undisturbed schedules from which the passes of each point are known
_PLAN = 1 << 40  # a plan's stream of chance is not that of its schedule


class Calm(NamedTuple):
    """What undisturbed schedules of a story tell."""

    finals: dict[str, str]
    passes: dict[Point, int]


@cache
def calm(number: int) -> Calm:
    """Finals of the undisturbed schedules of a story, all equal, and how often points are passed
    on average."""
    found: dict[str, str] | None = None
    passes: Counter[Point] = Counter()
    for seed in range(CALM_SEEDS):
        world = _Remembering(seed, story(number), FaultPlan())
        faults = world.run()
        assert faults == [], f"an undisturbed schedule of story {number}: {faults}"
        assert found is None or world.found == found, "finals depend on the schedule"
        found = world.found
        passes += world.passes
    assert found is not None
    assert len(found) > 1, "a story without alerts would prove little"
    return Calm(found, {point: -(-passed // CALM_SEEDS) for point, passed in passes.items()})


class _Remembering(World):
    """A world that keeps its finals."""

    found: dict[str, str]

    def _run(self) -> None:
        super()._run()
        self.found = outcome.finals(self)


def world_of(seed: int, *, trace: bool = False) -> World:
    """The schedule of a seed: its story, its faults, its scheduler."""
    number = seed % STORIES
    known = calm(number)
    plan = draw_plan(Dice(seed + _PLAN), known.passes)
    return World(seed, story(number), plan, known.finals, trace=trace)


@dataclass
class Summary:
    """Sums over schedules."""

    schedules: int = 0
    rewinds: int = 0
    decisions: int = 0
    struck: Counter[str] = field(default_factory=Counter)  # by class of fault
    points: Counter[Point] = field(default_factory=Counter)
    failed: dict[int, list[str]] = field(default_factory=dict)

    def run(self, seed: int) -> list[str]:
        """Run one more; returns what is wrong with it."""
        world = world_of(seed)
        faults = world.run()
        self.schedules += 1
        self.rewinds += world.rewinds
        self.decisions += world.decisions
        for fault in world.struck:
            self.struck[fault.what] += 1
            self.points[fault.point] += 1
        if faults:
            self.failed[seed] = faults
        return faults
