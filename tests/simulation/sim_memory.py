"""Shared memory and eventfds of simulated processes: bytes here, descriptors that are numbers.

Takes the place of ring/memory.py below the real ring endpoints and the real board.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, ClassVar

from sda_pipeline.ring import layout
from sda_pipeline.ring.memory import RingFds

# What of ring/memory.py is doubled.
DOUBLED = ("Mapping", "create_memory", "create_ring", "close_ring", "kick", "drain", "name_of")


class Bytes(bytearray):
    """A region. ``Memory.on_write`` is told of each copy into it and may cut it short by a kill."""

    def __setitem__(self, at: slice, data: bytes) -> None:  # type: ignore[override]
        if Memory.on_write is not None:
            Memory.on_write(self, at, data)
        super().__setitem__(at, data)


class ZeroingWords:
    """Words written as struct.pack_into would: zero first. For the control only."""

    interrupt: Callable[[], None]  # between the two stores

    def __init__(self, words: memoryview) -> None:
        self._words = words

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._words[index] = 0
        type(self).interrupt()
        self._words[index] = value


class Memory:
    """Every region and every signalled eventfd of the schedule that runs."""

    regions: ClassVar[dict[int, Bytes]] = {}
    names: ClassVar[dict[int, str]] = {}
    signalled: ClassVar[set[int]] = set()
    words: Callable[[memoryview], Any] = staticmethod(lambda words: words)
    on_write: Callable[[Bytes, slice, bytes], None] | None = None
    _numbers = count(1)

    @classmethod
    def reset(cls) -> None:
        cls.regions, cls.names, cls.signalled = {}, {}, set()
        cls._numbers = count(1)


class Mapping:
    """As ``ring.memory.Mapping``."""

    def __init__(self, fd: int) -> None:
        self.memory = Memory.regions[fd]
        whole = memoryview(self.memory)
        self.words = Memory.words(whole.cast("Q"))
        self.view = whole.toreadonly()

    def close(self) -> None:
        pass


def create_memory(name: str, size: int) -> int:
    """As ``ring.memory.create_memory``."""
    fd = next(Memory._numbers)
    Memory.regions[fd], Memory.names[fd] = Bytes(size), name
    return fd


def create_ring(name: str, capacity: int) -> RingFds:
    """As ``ring.memory.create_ring``."""
    size = layout.rounded_capacity(capacity)
    fd = create_memory(name, layout.CONTROL_BYTES + size)
    words = memoryview(Memory.regions[fd]).cast("Q")
    words[layout.WORD_CAPACITY] = words[layout.WORD_CREDIT] = size
    words[layout.WORD_MAGIC] = layout.MAGIC
    return RingFds(fd, next(Memory._numbers), next(Memory._numbers))


def close_ring(fds: RingFds) -> None:
    """As ``ring.memory.close_ring``: the name is gone, who has it mapped keeps it."""
    del Memory.regions[fds.memory]


def kick(fd: int) -> None:
    Memory.signalled.add(fd)


def drain(fd: int) -> None:
    Memory.signalled.discard(fd)


def name_of(fd: int) -> str:
    return Memory.names[fd]
