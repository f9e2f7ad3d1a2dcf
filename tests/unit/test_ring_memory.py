"""The ring's memory and descriptors: allocated, sealed, not inherited, given back."""

from __future__ import annotations

import fcntl
import gc
import os
import resource
from collections.abc import Iterator

import numpy as np
import pytest

from sda_pipeline.errors import SdaError
from sda_pipeline.ring import layout, memory
from sda_pipeline.ring.endpoints import Consumer, Producer
from sda_pipeline.ring.memory import close_ring, create_ring
from tests.unit.ring_rig import Ring, descriptors, open_ring

CAPACITY = 1024


@pytest.fixture
def ring() -> Iterator[Ring]:
    with open_ring(CAPACITY) as ring:
        yield ring


def test_close_tolerates_views_and_arrays_still_held() -> None:
    gc.collect()  # what other tests have dropped must not be counted
    before = descriptors()
    fds = create_ring("test", CAPACITY)
    producer, consumer = Producer(fds), Consumer(fds)
    data = np.arange(4, dtype="<u8")
    assert producer.try_publish(b"head", [data.tobytes()], 0)
    slot = consumer.read()
    assert slot is not None
    array = np.frombuffer(slot.payload, "<u8")
    consumer.close()
    consumer.close()
    producer.close()
    close_ring(fds)
    assert array.tolist() == data.tolist()
    assert bytes(slot.head) == b"head"
    del slot, array
    gc.collect()
    assert descriptors() == before


def test_descriptors_are_not_inherited_unless_passed(ring: Ring) -> None:
    assert not any(os.get_inheritable(fd) for fd in ring.fds)


def test_the_memory_is_allocated_and_cannot_change_its_size(ring: Ring) -> None:
    status = os.fstat(ring.fds.memory)
    assert status.st_size == layout.CONTROL_BYTES + CAPACITY
    assert status.st_blocks * 512 >= status.st_size
    with pytest.raises(PermissionError):
        os.ftruncate(ring.fds.memory, 4096)
    assert fcntl.fcntl(ring.fds.memory, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK


def test_short_memory_fails_cleanly(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    before = descriptors()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))
    try:
        with pytest.raises(SdaError, match=r"cannot create \d+ bytes of shared memory for test: "):
            create_ring("test", 1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.setattr(memory, "_available_bytes", lambda: 10_000)
    with pytest.raises(SdaError, match="only 10000 bytes of memory are available; lower"):
        create_ring("test", 1 << 20)
    assert descriptors() == before


def test_a_ring_over_the_largest_is_refused() -> None:
    with pytest.raises(SdaError, match="cannot create the ring big"):
        create_ring("big", layout.CAPACITY_MAX + 1)


def test_the_kernel_says_how_much_memory_is_available() -> None:
    available = memory._available_bytes()
    assert available is not None
    assert available > 1 << 20
