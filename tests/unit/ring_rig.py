"""A ring with both ends in this process, for the ring tests. Holds no test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from sda_pipeline.clock import ManualClock
from sda_pipeline.ring import memory
from sda_pipeline.ring.endpoints import Consumer, Producer, Slot
from sda_pipeline.ring.memory import RingFds, close_ring, create_ring


@dataclass
class Ring:
    """Both ends attached in this process, and a raw mapping to damage the memory through."""

    fds: RingFds
    producer: Producer
    consumer: Consumer
    raw: memory.Mapping

    def publish(self, head: bytes = b"head", *payload: bytes) -> bool:
        return self.producer.try_publish(head, payload, crc32(b"".join(payload)))

    def flip(self, at: int, mask: int = 1) -> None:
        self.raw.memory[at] ^= mask

    def read(self) -> Slot:
        slot = self.consumer.read()
        assert slot is not None
        return slot

    def restart_consumer(self) -> None:
        self.consumer.close()
        self.consumer = Consumer(self.fds, ManualClock())


@contextmanager
def open_ring(capacity: int) -> Iterator[Ring]:
    """A ring named ``test``, closed at the end."""
    fds = create_ring("test", capacity)
    ring = Ring(fds, Producer(fds), Consumer(fds, ManualClock()), memory.Mapping(fds.memory))
    try:
        yield ring
    finally:
        ring.producer.close()
        ring.consumer.close()
        ring.raw.close()
        close_ring(fds)


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
