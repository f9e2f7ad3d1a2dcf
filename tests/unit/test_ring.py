"""What the two ends of a ring promise. Damage: test_ring_damage; histories: test_ring_model."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from sda_pipeline.errors import SdaError
from sda_pipeline.ring import layout, memory
from sda_pipeline.ring.endpoints import Consumer, Producer, wait
from tests.unit.ring_rig import Ring, open_ring

CAPACITY = 1024


@pytest.fixture
def ring() -> Iterator[Ring]:
    with open_ring(CAPACITY) as ring:
        yield ring


@pytest.fixture
def small() -> Iterator[Ring]:
    with open_ring(layout.CAPACITY_MIN) as ring:
        yield ring


def _readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


# --- frames through the ring ------------------------------------------------------------------


def test_a_frame_arrives_as_it_was_published(ring: Ring) -> None:
    column = np.arange(5, dtype="<f8")
    assert ring.producer.try_publish(b"12345", [b"ab", memoryview(column), b""], 77)
    slot = ring.read()
    assert bytes(slot.head) == b"12345"
    assert bytes(slot.payload) == b"ab" + column.tobytes()
    assert slot.payload_crc == 77
    assert ring.consumer.read() is None
    assert ring.consumer.empty()


def test_columns_of_a_payload_are_aligned_and_read_only(ring: Ring) -> None:
    for head in (b"", b"1", b"12345678", b"123456789"):
        assert ring.publish(head, np.arange(3, dtype="<u8").tobytes())
        array = np.frombuffer(ring.read().payload, "<u8")
        assert array.ctypes.data % 8 == 0
        assert not array.flags.writeable


def test_a_full_ring_refuses_and_never_overwrites(ring: Ring) -> None:
    count = 0
    while ring.publish(b"", bytes([count]) * 200):
        count += 1
    assert count == 4
    assert ring.producer.occupied() == 4 * 224
    slots = [ring.read() for _ in range(count)]
    assert [bytes(slot.payload) for slot in slots] == [bytes([i]) * 200 for i in range(count)]
    ring.consumer.release(slots[0].end)
    assert ring.publish(b"", b"again")


def test_the_largest_frame_fits_an_empty_ring_wherever_it_stands(small: Ring) -> None:
    largest = bytes(range(128))
    for _ in range(layout.CAPACITY_MIN // layout.ALIGN * 2):
        assert small.publish(b"", largest)
        slot = small.read()
        small.consumer.verify(slot)
        assert bytes(slot.payload) == largest
        small.consumer.release(slot.end)
        assert small.publish(b"", b"")  # one header: the next lap starts 16 bytes later
        small.consumer.release(small.read().end)
    assert small.producer.occupied() == 0


def test_a_frame_over_a_quarter_of_the_ring_is_refused_with_both_sizes(ring: Ring) -> None:
    assert ring.publish(b"1234", bytes(252))
    with pytest.raises(SdaError, match=r"257 bytes to test: a ring of 1024 .* at most 256; raise"):
        ring.publish(b"12345", bytes(252))
    assert bytes(ring.read().head) == b"1234"
    assert ring.consumer.empty()


def test_capacity_is_rounded_up() -> None:
    assert layout.rounded_capacity(1) == layout.CAPACITY_MIN
    assert layout.rounded_capacity(513) == 576


# --- restarts ---------------------------------------------------------------------------------


def test_a_restarted_consumer_reads_again_from_released(ring: Ring) -> None:
    for i in range(3):
        assert ring.publish(bytes([i]))
    ring.consumer.release(ring.read().end)
    ring.read()
    ring.restart_consumer()
    assert [bytes(ring.read().head) for _ in range(2)] == [b"\x01", b"\x02"]


def test_a_restarted_producer_goes_on_behind_the_last_published_frame(ring: Ring) -> None:
    assert ring.publish(b"1")
    ring.producer.close()
    ring.producer = Producer(ring.fds)
    assert ring.publish(b"2")
    assert [bytes(ring.read().head) for _ in range(2)] == [b"1", b"2"]


def test_a_restarted_end_signals_what_its_predecessor_may_not_have(ring: Ring) -> None:
    memory.drain(ring.fds.data)
    memory.drain(ring.fds.space)
    Producer(ring.fds).close()
    Consumer(ring.fds).close()
    assert _readable(ring.fds.data)
    assert _readable(ring.fds.space)


# --- credit and waiting -------------------------------------------------------------------------


def test_credit_bounds_how_far_the_producer_runs_ahead(ring: Ring) -> None:
    ring.consumer.set_credit(0)
    assert not ring.publish()
    memory.drain(ring.fds.space)
    ring.consumer.set_credit(64)
    assert _readable(ring.producer.space_fd)
    assert ring.publish()
    assert ring.publish()
    assert not ring.publish()
    ring.consumer.release(ring.read().end)
    assert ring.publish()
    ring.consumer.set_credit(10 * CAPACITY)
    while ring.publish():
        pass
    assert ring.producer.occupied() == CAPACITY


def test_a_new_consumer_gives_full_credit(ring: Ring) -> None:
    ring.consumer.set_credit(0)
    ring.restart_consumer()
    assert ring.publish()


def test_publish_and_release_wake_the_other_end(ring: Ring) -> None:
    memory.drain(ring.fds.data)
    memory.drain(ring.fds.space)
    assert ring.publish()
    assert ring.publish()
    assert not _readable(ring.producer.space_fd)
    wait([ring.producer.space_fd, ring.consumer.data_fd], 60)
    assert not _readable(ring.consumer.data_fd)
    ring.consumer.release(ring.read().end)
    wait([ring.producer.space_fd], 60)
    assert not _readable(ring.producer.space_fd)


def test_wait_ends_with_its_time_and_on_a_late_signal(ring: Ring) -> None:
    memory.drain(ring.fds.data)
    before = time.monotonic()
    wait([ring.fds.data], 0.02)
    assert time.monotonic() - before >= 0.02
    thread = threading.Thread(target=ring.publish)
    thread.start()
    wait([ring.fds.data], 60)
    thread.join()
    assert not ring.consumer.empty()
    with pytest.raises(AssertionError, match="bound"):
        wait([ring.fds.data], -1)


def test_wait_survives_signals_of_the_operating_system(ring: Ring) -> None:
    memory.drain(ring.fds.data)
    signals: list[int] = []
    previous = signal.signal(signal.SIGALRM, lambda number, _: signals.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    before = time.monotonic()
    try:
        wait([ring.fds.data], 0.05)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert signals
    assert time.monotonic() - before >= 0.05


def test_a_full_eventfd_is_signal_enough(ring: Ring) -> None:
    os.eventfd_write(ring.fds.data, 2**64 - 2 - os.eventfd_read(ring.fds.data))
    os.eventfd_write(ring.fds.data, 0)
    memory.drain(ring.fds.data)
    os.eventfd_write(ring.fds.data, 2**64 - 2)
    assert ring.publish()
    wait([ring.fds.data], 60)
    assert not _readable(ring.fds.data)
