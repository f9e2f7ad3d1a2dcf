"""Flipped bits in ring memory that no consumer has read yet. Not torn writes: those are kills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sda_pipeline.ring import layout
from tests.simulation.sim_memory import Memory

if TYPE_CHECKING:
    from tests.simulation.world import World


def flip_unread(world: World) -> bool:
    """Flip one bit of what some consumer has still to read; False when there is nothing to read."""
    unread = []
    for edge in world.topology.edges:
        fds = world.supervisor.wiring._rings[edge.name]
        region = Memory.regions[fds.memory]
        words = memoryview(region).cast("Q")
        head, released = words[layout.WORD_HEAD], words[layout.WORD_RELEASED]
        reader = world.supervisor.workers.get(edge.target)
        consumer = reader.inputs.get(edge.name) if reader else None
        start = consumer._next if consumer else released
        if start < head:
            unread.append((edge.name, region, start, head))
    if not unread:
        return False
    name, region, start, head = world.dice.pick(unread)
    capacity = len(region) - layout.CONTROL_BYTES
    position = world.dice.between(start, head - 1)
    bit = world.dice.below(8)
    region_at = layout.CONTROL_BYTES + position % capacity
    bytearray.__setitem__(region, region_at, region[region_at] ^ (1 << bit))
    world.damaged += 1
    world.note(f"bit {bit} of byte {position} in {name} is flipped")
    return True
