"""Schedules in which a source's log is lost, and the source dies of the first record of its new
one while frames of the old log are on their way: nothing is skipped, nothing stands in doubt.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation import losses
from tests.simulation.campaign import calm
from tests.simulation.dice import Dice
from tests.simulation.fault_plan import Fault, FaultPlan, Loss, What
from tests.simulation.seams import simulated
from tests.simulation.sim_worker import SimWorker
from tests.simulation.story import SOURCES, STORIES, story
from tests.simulation.world import World

SEEDS, PARTS = 240, 3
TURNS_OF_OTHERS = 4  # between a source's look at the correlator's store and its first frame
_PLAN = 1 << 41


@pytest.fixture(autouse=True)
def _simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = SimWorker.ready

    def slowly(self: SimWorker) -> None:
        real(self)
        if self.name in SOURCES:
            for _ in range(TURNS_OF_OTHERS):
                self.fiber.pause()

    monkeypatch.setattr(SimWorker, "ready", slowly)
    monkeypatch.setattr(losses, "_BAG", (Loss.LOG,))
    with simulated():
        yield


def _plan(seed: int) -> FaultPlan:
    dice = Dice(seed + _PLAN)
    source, at = dice.pick(SOURCES), dice.between(2, 5)
    again = dice.pick(("after_sync", "after_sync", "after_append", "ready"))
    after = at + 1 if again != "ready" else 2
    return FaultPlan(
        [
            Fault(What.LOSS, (source, "after_publish"), at),
            Fault(What.KILL, (source, again), after),
        ]
    )


@pytest.mark.parametrize("part", range(PARTS))
def test_a_log_lost_while_its_frames_and_rejects_are_on_their_way(part: int) -> None:
    sought = 0
    for seed in range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS):
        number = seed % STORIES
        world = World(seed, story(number), _plan(seed), calm(number).finals)
        assert world.run() == [], f"seed {seed}: {world.plan.faults}"
        sought += world.said["rejects_sought"]
    assert sought > 0, "in none of them had rejects gone with the log"
