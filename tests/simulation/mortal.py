"""A disk without a world, whose host dies where a test says. For the tests of the doubles."""

from __future__ import annotations

from tests.simulation.dice import Dice
from tests.simulation.sim_disk import Disk


class Mortal:
    """A disk's host: dies at the points in ``deadly``."""

    running = None

    def __init__(self) -> None:
        self.deadly: set[str] = set()
        self.disk = Disk(self, Dice(7))

    def dies_at(self, point: str) -> bool:
        return point in self.deadly
