"""Flipped bits in ring memory: cursors, and slots nobody has read yet. Not torn writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sda_pipeline.ring import layout
from tests.simulation.sim_memory import Memory

if TYPE_CHECKING:
    from tests.simulation.world import World

CURSORS = 0.25  # of the flips; the others hit slots


def flip(world: World) -> bool:
    """Flip one bit of a ring; False when there is nothing to flip yet."""
    return _flip_cursor(world) if world.dice.chance(CURSORS) else _flip_unread(world)


def _flip_cursor(world: World) -> bool:
    """One of the low bits of a ring's head or released word."""
    edge = world.dice.pick(world.topology.edges)
    region = Memory.regions[world.supervisor.wiring._rings[edge.name].memory]
    words = memoryview(region).cast("Q")
    word = world.dice.pick((layout.WORD_HEAD, layout.WORD_RELEASED))
    words[word] ^= 1 << world.dice.below(16)
    world.damaged.add(edge.name)
    world.note(f"a cursor of {edge.name} is flipped")
    return True


def _flip_unread(world: World) -> bool:
    """One bit of what some consumer has still to read."""
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
    world.damaged.add(name)
    world.note(f"bit {bit} of byte {position} in {name} is flipped")
    return True
