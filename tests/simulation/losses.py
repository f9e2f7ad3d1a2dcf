"""Stores that are gone or damaged when their owner starts again. Not what is lost by a power loss.

Excused are then: rewinds, and board words above what the store says. Rejects that went with a log
before they reached the DLQ are found again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from sda_pipeline.log.source_log import read_log
from sda_pipeline.state.environment import DATA_FILE
from sda_pipeline.state.recovery import CORRELATOR, LOGS, SNAPSHOTS
from supervisor.states import Phase
from tests.simulation.durability import ALERTS
from tests.simulation.fault_plan import Loss

if TYPE_CHECKING:
    from tests.simulation.world import World


_BAG = (Loss.CORRELATOR, Loss.CORRELATOR, Loss.CORRELATOR, Loss.SINK, Loss.LOG)


def lose_store(world: World) -> None:
    """Kill an owner, or the tree, and take its store away; not at the end of the whole story: no
    later start would be there to find it gone.
    """
    if world.supervisor.tree.phase is Phase.DRAINING:
        return
    loss = world.dice.pick(_BAG)
    owner = world.dice.pick(world.topology.sources) if loss is Loss.LOG else str(loss)
    spoiled = _spoiled_snapshots(world) if loss is Loss.CORRELATOR else []
    if spoiled is None:
        return
    world.excused |= {owner, loss}
    world.note(f"the store of {owner} is lost")
    # With every snapshot bad the logs are all there is: no source may live on and delete of them.
    if world.dice.chance(0.5) or (spoiled and spoiled == _good_snapshots(world)):
        world.kill_tree()
    elif owner in world.supervisor.workers:
        world.supervisor.kill(owner)
    if loss is Loss.CORRELATOR:
        _lose_correlator(world, spoiled)
    elif loss is Loss.SINK:
        _lose_alerts(world)
    else:
        _lose_log(world, owner)


def _good_snapshots(world: World) -> list[Path]:
    found = sorted((world.topology.state / SNAPSHOTS).glob("*.snap"))
    return [path for path in found if path.name not in world.spoiled]


def _spoiled_snapshots(world: World) -> list[Path] | None:
    """Which snapshots are to be bad as well; None when the logs need the store to be whole."""
    state, good = world.topology.state, _good_snapshots(world)
    whole = all(read_log(state / LOGS / source).first == 1 for source in world.topology.sources)
    if not whole and not good:
        return None
    spoiled = world.dice.pick([[], [], good[-1:], good])
    return spoiled if whole or spoiled != good else []


def _lose_correlator(world: World, spoiled: list[Path]) -> None:
    file = world.topology.state / CORRELATOR / DATA_FILE
    if file.exists():
        if world.dice.chance(0.5):
            shutil.rmtree(file.parent)
        else:
            file.write_bytes(b"damaged")
    for path in spoiled:
        data = bytearray(path.read_bytes())
        data[world.dice.below(len(data))] ^= 1 << world.dice.below(8)
        path.write_bytes(data)
        world.spoiled.add(path.name)
        world.note(f"{path.name} is damaged")


def _lose_alerts(world: World) -> None:
    database = world.disk.databases.pop(world.topology.state / ALERTS, None)
    if database is not None:
        database.connection.close()


def _lose_log(world: World, source: str) -> None:
    directory = world.topology.state / LOGS / source
    shutil.rmtree(directory, ignore_errors=True)
    for path in [path for path in world.disk.unsynced if path.is_relative_to(directory)]:
        del world.disk.unsynced[path]
