"""Many schedules: from a seed to its world, and the sums over a campaign. Not one schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from tests.simulation import outcome
from tests.simulation.broken_reject_rules import broken
from tests.simulation.dice import Dice
from tests.simulation.fault_plan import FaultPlan, Point, draw_plan
from tests.simulation.story import STORIES, story
from tests.simulation.world import World

CALM_SEEDS = 8  # undisturbed schedules from which the passes of each point are known
TRACE_SHOWN = 60  # last lines of a failing schedule's transcript
_PLAN = 1 << 40  # a plan's stream of chance is not that of its schedule


class Calm(NamedTuple):
    """What undisturbed schedules of a story tell."""

    finals: dict[str, str]
    passes: dict[Point, int]


@cache
def calm(number: int) -> Calm:
    """Finals of the undisturbed schedules of a story, all equal, and how often points are passed
    on average.
    """
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

    def live(self) -> None:
        super().live()
        self.found = outcome.finals(self)


def world_of(seed: int, *, trace: bool = False) -> World:
    """The schedule of a seed: its story, its faults, its scheduler."""
    number = seed % STORIES
    known = calm(number)
    plan = draw_plan(Dice(seed + _PLAN), known.passes)
    return World(seed, story(number), plan, known.finals, trace=trace)


def caught_after(rule: str, seeds: int) -> tuple[int, list[str]] | None:
    """After how many seeds a broken rule is noticed, and how; None when it never is."""
    for number in range(STORIES):
        calm(number)  # what a sound pipeline does
    with broken(rule):
        for seed in range(seeds):
            if faults := world_of(seed).run():
                return seed + 1, faults
    return None


def told(seed: int, faults: list[str]) -> str:
    """A failing seed, its schedule, and how to see it again."""
    world = world_of(seed, trace=True)
    again = world.run()
    lines = [f"seed {seed} failed:", *(f"  {fault}" for fault in faults)]
    lines += [f"  (not again: {again})"] if again != faults else []
    lines += ["its faults:", *(f"  {fault}" for fault in world.plan.faults)]
    lines += [f"its last {TRACE_SHOWN} lines:", *(world.trace or [])[-TRACE_SHOWN:]]
    lines += [f"all of it: python -m tests.simulation --seed {seed} --trace"]
    return "\n".join(lines)


@dataclass
class Summary:
    """Sums over schedules."""

    schedules: int = 0
    rewinds: int = 0
    struck: dict[str, int] = field(default_factory=dict)  # by class of fault
    points: dict[str, int] = field(default_factory=dict)  # by "operator.point"
    recovered: dict[str, int] = field(default_factory=dict)  # by rung of the ladder
    failed: dict[int, list[str]] = field(default_factory=dict)

    def run(self, seed: int) -> list[str]:
        """Run one more; returns what is wrong with it."""
        world = world_of(seed)
        faults = world.run()
        self.schedules += 1
        self.rewinds += world.rewinds
        _plus(self.struck, Counter(str(fault.what) for fault in world.struck))
        _plus(self.points, Counter(".".join(fault.point) for fault in world.struck))
        _plus(self.recovered, world.recovered)
        if faults:
            self.failed[seed] = faults
        return faults

    def add(self, other: Summary) -> None:
        """The sums of both."""
        self.schedules += other.schedules
        self.rewinds += other.rewinds
        _plus(self.struck, other.struck)
        _plus(self.points, other.points)
        _plus(self.recovered, other.recovered)
        self.failed |= other.failed


def _plus(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count
