"""Random histories of a ring against a deque of frames and a strip of 16-byte cells."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple
from zlib import crc32

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sda_pipeline.clock import ManualClock
from sda_pipeline.errors import SdaError
from sda_pipeline.ring.endpoints import Consumer, Producer, Slot
from sda_pipeline.ring.memory import close_ring, create_ring

CELL = 16


class Frame(NamedTuple):
    """What was published, and the cells it took with the skipped rest of a lap before it."""

    head: bytes
    payload: bytes
    cells: int


class RingMachine(RuleBasedStateMachine):
    """``frames`` are published, not released; the first ``len(slots)`` of them have been read."""

    @initialize(cells=st.integers(8, 40).map(lambda lines: 4 * lines))
    def start(self, cells: int) -> None:
        self.cells, self.cell, self.credit = cells, 0, cells * CELL
        self.frames: deque[Frame] = deque()
        self.slots: deque[Slot] = deque()
        self.held: list[tuple[bytes, object]] = []
        self.fds = create_ring("model", cells * CELL)
        self.producer = Producer(self.fds)
        self.consumer = Consumer(self.fds, ManualClock())
        self.serial = 0

    def teardown(self) -> None:
        if hasattr(self, "fds"):
            self.producer.close()
            self.consumer.close()
            close_ring(self.fds)

    def _used(self) -> int:
        return sum(frame.cells for frame in self.frames)

    @rule(head=st.binary(max_size=60), sizes=st.lists(st.integers(0, 200), max_size=3))
    def publish(self, head: bytes, sizes: list[int]) -> None:
        self._publish(head, sizes)

    @rule(percents=st.lists(st.integers(0, 100), min_size=3, max_size=20))
    def flow(self, percents: list[int]) -> None:
        """Frames of so many percent of the largest, each read at once, all released when full."""
        for percent in percents:
            self._publish(b"12345", [(self.cells * CELL // 4 - 5) * percent // 100])
            self.read()
            if self.slots and self._used() > self.cells // 2:
                self._release(len(self.slots))

    def _publish(self, head: bytes, sizes: list[int]) -> None:
        self.serial += 1
        parts = [bytes((self.serial + i + j) & 255 for j in range(n)) for i, n in enumerate(sizes)]
        payload = b"".join(parts)
        if len(head) + len(payload) > self.cells * CELL // 4:
            with pytest.raises(SdaError, match="cannot publish a frame"):
                self.producer.try_publish(head, parts, 0)
            return
        padded_head = -(-len(head) // 8) * 8
        needed = -(-(16 + padded_head + len(payload)) // CELL)
        skipped = 0 if self.cell + needed <= self.cells else self.cells - self.cell
        fits = (self._used() + skipped + needed) * CELL <= self.credit
        assert self.producer.try_publish(head, parts, crc32(payload)) == fits
        if fits:
            self.frames.append(Frame(head, payload, skipped + needed))
            self.cell = (self.cell + skipped + needed) % self.cells

    @rule()
    def read(self) -> None:
        slot = self.consumer.read()
        if len(self.slots) == len(self.frames):
            assert slot is None
            return
        assert slot is not None
        expected = self.frames[len(self.slots)]
        assert (bytes(slot.head), bytes(slot.payload)) == (expected.head, expected.payload)
        self.consumer.verify(slot)
        self.slots.append(slot)

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self._release(data.draw(st.integers(1, len(self.slots)), label="count"))

    def _release(self, count: int) -> None:
        for _ in range(count):
            end = self.slots.popleft().end
            self.frames.popleft()
        self.consumer.release(end)

    @precondition(lambda self: self.slots)
    @rule()
    def hold_a_view(self) -> None:
        slot = self.slots[-1]
        self.held.append((bytes(slot.payload), np.frombuffer(slot.payload, "u1")))

    @rule()
    def drop_views(self) -> None:
        self.held.clear()

    @rule(lines=st.one_of(st.just(50), st.integers(0, 50)))
    def set_credit(self, lines: int) -> None:
        self.credit = min(lines * 64, self.cells * CELL)
        self.consumer.set_credit(lines * 64)

    @rule()
    def restart_producer(self) -> None:
        self.producer.close()
        self.producer = Producer(self.fds)

    @rule(close=st.booleans())
    def restart_consumer(self, *, close: bool) -> None:
        if close:  # a killed one closes nothing
            self.consumer.close()
        self.consumer = Consumer(self.fds, ManualClock())
        self.slots.clear()
        self.credit = self.cells * CELL

    @invariant()
    def both_ends_know_what_is_in_it(self) -> None:
        if hasattr(self, "fds"):
            assert self.producer.occupied() == self._used() * CELL
            assert self.consumer.empty() == (len(self.slots) == len(self.frames))

    @invariant()
    def unreleased_slots_stay_as_they_were_read(self) -> None:
        if hasattr(self, "fds"):
            for slot, frame in zip(self.slots, self.frames, strict=False):
                assert bytes(slot.payload) == frame.payload


RingMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestRing = RingMachine.TestCase
