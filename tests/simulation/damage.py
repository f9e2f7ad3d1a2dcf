"""Flipped bits in ring memory: cursors, and slots nobody has read yet; or such a slot is lost.

Not torn writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sda_pipeline.ring import layout
from tests.simulation.sim_memory import Memory

if TYPE_CHECKING:
    from tests.simulation.world import World

CURSORS = 0.25  # of the flips; the others hit slots
LOST = 0.4  # of these: the whole slot is skipped


def flip(world: World) -> bool:
    """Flip one bit of a ring, or lose a slot; False when there is nothing to damage yet."""
    if world.dice.chance(CURSORS):
        return _flip_cursor(world)
    unread = _unread(world)
    if not unread:
        return False
    if not world.dice.chance(LOST):
        return _flip_unread(world, world.dice.pick(unread))
    rejects = [found for found in unread if found.edge.endswith("->dlq-sink")]  # rarely any
    return _lose_slot(world, world.dice.pick(rejects or unread))


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


class _Unread(NamedTuple):
    """What some consumer has still to read: from ``start`` to ``head``."""

    edge: str
    region: bytearray
    start: int
    head: int
    consumer: Any  # None while its process is dead


def _unread(world: World) -> list[_Unread]:
    found = []
    for edge in world.topology.edges:
        fds = world.supervisor.wiring._rings[edge.name]
        region = Memory.regions[fds.memory]
        words = memoryview(region).cast("Q")
        head, released = words[layout.WORD_HEAD], words[layout.WORD_RELEASED]
        reader = world.supervisor.workers.get(edge.target)
        consumer = reader.inputs.get(edge.name) if reader else None
        start = consumer._next if consumer else released
        if start < head:
            found.append(_Unread(edge.name, region, start, head, consumer))
    return found


def _flip_unread(world: World, unread: _Unread) -> bool:
    """One bit of it."""
    region = unread.region
    capacity = len(region) - layout.CONTROL_BYTES
    position = world.dice.between(unread.start, unread.head - 1)
    bit = world.dice.below(8)
    region_at = layout.CONTROL_BYTES + position % capacity
    bytearray.__setitem__(region, region_at, region[region_at] ^ (1 << bit))
    world.damaged.add(unread.edge)
    world.note(f"bit {bit} of byte {position} in {unread.edge} is flipped")
    return True


def _lose_slot(world: World, unread: _Unread) -> bool:
    """Its first slot: the reader goes on behind it.

    The newest one only on the way to the dlq-sink: elsewhere the next frame shows the gap, and a
    finite input may have none.
    """
    data = memoryview(unread.region)[layout.CONTROL_BYTES :]
    try:
        end = layout.locate(data, unread.start, unread.head).end
    except layout.DamageError:
        return False
    if end == unread.head and not unread.edge.endswith("->dlq-sink"):
        return False
    if unread.consumer is not None:
        unread.consumer._next = end
    else:
        memoryview(unread.region).cast("Q")[layout.WORD_RELEASED] = end
    world.damaged.add(unread.edge)
    world.note(f"the slot at {unread.start} in {unread.edge} is lost")
    return True
