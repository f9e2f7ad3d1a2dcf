"""Which faults a schedule meets, and when: drawn before it starts. Not how a fault is done."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from tests.simulation.dice import Dice

Point = tuple[str, str]  # (operator, point)


class What(StrEnum):
    """Classes of faults."""

    KILL = "kill"  # the operator that passes the point
    OTHER = "kill another"  # one that stands anywhere
    PAIR = "kill two"  # the one that passes and another
    TREE = "kill the tree"
    POWER = "power loss"  # the tree, and what is not synced
    DAMAGE = "flip a byte"  # in a ring, not yet read
    LOSS = "lose a store"  # with its owner's death, or the tree's


class Loss(StrEnum):
    """Which store."""

    CORRELATOR = "correlator"
    SINK = "alert-sink"
    LOG = "log"


# How often each is drawn. The tree's ends are rarer: each costs a whole start.
WEIGHTS = {What.KILL: 8, What.OTHER: 2, What.PAIR: 2, What.TREE: 3, What.POWER: 4}
WEIGHTS |= {What.DAMAGE: 3, What.LOSS: 3}
# A fourth rewind within a minute ends the tree, and rightly so. A minute passes between two
# losses; a flipped bit may be found late and costs two rewinds, so it excludes both.
REWINDING = frozenset({What.DAMAGE, What.LOSS})
_BAG = [what for what, weight in WEIGHTS.items() for _ in range(weight)]
COUNTS = (0, 1, 2, 3, 3, 4, 5)  # of faults in one schedule
# Points that only a lost store leads to, so that recovery itself is struck as well.
RECOVERY = [
    ("correlator", point)
    for point in ("recovery_copied", "recovery_moved_aside", "recovery_installed", "recovery_epoch")
]


@dataclass(frozen=True)
class Fault:
    """Strikes when ``point`` is passed for the ``at``-th time."""

    what: What
    point: Point
    at: int


@dataclass
class FaultPlan:
    """The faults of one schedule, by the point at which they strike."""

    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._armed: dict[Point, list[Fault]] = {}
        for fault in self.faults:
            self._armed.setdefault(fault.point, []).append(fault)

    def strikes(self, point: Point, hit: int) -> Fault | None:
        """The fault that strikes at this pass of a point, if any."""
        for fault in self._armed.get(point, ()):
            if fault.at == hit:
                return fault
        return None


def draw_plan(dice: Dice, passes: dict[Point, int]) -> FaultPlan:
    """Faults of any class at any point; ``passes``: how often an undisturbed schedule passes each.

    Every point is as likely as any other, however often it is passed.
    """
    points = sorted(passes)
    faults = []
    for _ in range(dice.pick(COUNTS)):
        what = dice.pick(_BAG)
        before = {fault.what for fault in faults} & REWINDING
        if what in REWINDING and before and What.DAMAGE in before | {what}:
            continue
        point = dice.pick(points)
        faults.append(Fault(what, point, dice.between(1, passes[point])))
        if what is What.LOSS and dice.chance(0.5):
            again = dice.pick((What.KILL, What.KILL, What.PAIR, What.TREE, What.POWER))
            faults.append(Fault(again, dice.pick(RECOVERY), dice.between(1, 2)))
    return FaultPlan(faults)
