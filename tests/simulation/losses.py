"""Stores that are gone or damaged when their owner starts again. Not what is lost by a power loss.

Excused are then: rewinds, board words above what the store says, and rejects that went with a log
before they reached the DLQ (the source says so: ``rejects_in_doubt``).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from sda_pipeline.log.source_log import read_log
from sda_pipeline.state.environment import DATA_FILE
from sda_pipeline.state.recovery import CORRELATOR, LOGS, SNAPSHOTS
from tests.simulation.durability import ALERTS
from tests.simulation.fault_plan import Loss

if TYPE_CHECKING:
    from tests.simulation.world import World


_BAG = (Loss.CORRELATOR, Loss.CORRELATOR, Loss.CORRELATOR, Loss.SINK, Loss.LOG)


def lose_store(world: World) -> None:
    """Kill an owner, or the tree, and take its store away."""
    loss = world.dice.pick(_BAG)
    owner = world.dice.pick(world.topology.sources) if loss is Loss.LOG else str(loss)
    world.excused |= {owner, loss}
    world.note(f"the store of {owner} is lost")
    if world.dice.chance(0.5):
        world.kill_tree()
    elif owner in world.supervisor.workers:
        world.supervisor.kill(owner)
    if loss is Loss.CORRELATOR:
        _lose_correlator(world, world.topology.state)
    elif loss is Loss.SINK:
        database = world.disk.databases.pop(world.topology.state / ALERTS, None)
        if database is not None:
            database.connection.close()
    else:
        directory = world.topology.state / LOGS / owner
        shutil.rmtree(directory, ignore_errors=True)
        for path in [path for path in world.disk.unsynced if path.is_relative_to(directory)]:
            del world.disk.unsynced[path]


def _lose_correlator(world: World, state: Path) -> None:
    """The LMDB and perhaps snapshots, but never all that can tell what the logs do not hold."""
    snapshots = sorted((state / SNAPSHOTS).glob("*.snap"))
    good = [path for path in snapshots if path.name not in world.spoiled]
    whole = all(read_log(state / LOGS / source).first == 1 for source in world.topology.sources)
    if not whole and not good:
        return
    file = state / CORRELATOR / DATA_FILE
    if file.exists():
        if world.dice.chance(0.5):
            shutil.rmtree(file.parent)
        else:
            file.write_bytes(b"damaged")
    lost = good[-1:] if world.dice.chance(0.4) else []
    if world.dice.chance(0.4):
        lost = good
    for path in lost if whole or len(lost) < len(good) else []:
        data = bytearray(path.read_bytes())
        data[world.dice.below(len(data))] ^= 1 << world.dice.below(8)
        path.write_bytes(data)
        world.spoiled.add(path.name)
        world.note(f"{path.name} is damaged")
