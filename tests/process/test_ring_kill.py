"""A real producer killed by SIGKILL at random moments, again and again: no frame torn or lost.

``SDA_SEED`` replays the choices of a run; what the kernel's scheduler chose it cannot replay.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sda_pipeline.errors import Rewind
from sda_pipeline.ring import layout, memory
from sda_pipeline.ring.board import Board
from sda_pipeline.ring.endpoints import Consumer, wait
from sda_pipeline.ring.memory import close_ring, create_ring
from tests.process import ring_child
from tests.process.ring_child import CAPACITY, HEAD, WORDS, frame_of

pytestmark = pytest.mark.process

LIVES = 50
ROOT = Path(__file__).parents[2]


class Bench:
    """The supervisor's and the consumer's side: a ring, a board, one child at a time."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.fds = create_ring("kill", CAPACITY)
        self.board = Board.create(WORDS)
        self.raw = memory.Mapping(self.fds.memory)
        self.consumer = Consumer(self.fds)
        self.last = 0  # the newest frame verified
        self.published = 0  # the newest frame any child is known to have published
        self.head = 0
        self.unreleased: list[int] = []
        self.life = self.torn = self.repeated = 0

    def close(self) -> None:
        self.consumer.close()
        self.raw.close()
        self.board.close()
        close_ring(self.fds)

    @contextmanager
    def child(self, mode: str) -> Iterator[subprocess.Popen[bytes]]:
        """A child that starts behind the newest verified frame; killed and reaped at the end."""
        fds = (*self.fds, self.board.fd)
        child = subprocess.Popen(  # -S: without site-packages a start takes a third of the time
            [sys.executable, "-S", ring_child.__file__, mode, *map(str, fds), str(self.last + 1)],
            pass_fds=fds,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            yield child
        finally:
            child.kill()
            child.wait()

    def sample_cursor(self) -> None:
        """The cursor never goes back, and so never shows 0 again."""
        for _ in range(20):
            head = self.raw.words[layout.WORD_HEAD]
            assert head >= self.head, f"head went from {self.head} to {head}"
            self.head = head

    def sample_until(self, until: float, target: int) -> None:
        while time.perf_counter() < until and self.head < target:
            self.sample_cursor()

    def step(self) -> bool:
        """Read, check and perhaps release one frame; False when there is none."""
        self.sample_cursor()
        slot = self.consumer.read()
        if slot is None:
            self.release()  # else what is held back could leave no room for the next frame
            return False
        self.consumer.verify(slot)
        (number,) = HEAD.unpack(slot.head)
        assert slot.payload == frame_of(number)[1], f"frame {number} is torn"
        assert number <= self.last + 1, f"frame {number} after {self.last}: a gap"
        self.repeated += number <= self.last
        self.last = max(self.last, number)
        self.unreleased.append(slot.end)
        if self.rng.random() < 0.7:
            self.release()
        if self.rng.random() < 0.02:  # a new consumer reads again what is not released
            self.consumer.close()
            self.consumer = Consumer(self.fds)
            self.unreleased.clear()
        return True

    def drain(self) -> None:
        while self.step():
            pass

    def release(self) -> None:
        if self.unreleased:
            self.consumer.release(self.unreleased[-1])
            self.unreleased.clear()

    def lives(self, mode: str, count: int = LIVES) -> None:
        for self.life in range(1, count + 1):
            self.live(mode)

    def live(self, mode: str) -> None:
        """One life: until a new frame has come, a few frames more, then a kill into the copying."""
        before, frames = self.last, self.rng.randrange(1, 30)
        deadline = time.monotonic() + 60
        with self.child(mode) as child:
            while self.last < before + frames:
                if not self.step():
                    wait([self.consumer.data_fd], 0.05)
                assert child.poll() is None, "the child died by itself"
                assert time.monotonic() < deadline, "the child publishes nothing"
            child.send_signal(signal.SIGSTOP)
            self.drain()  # an empty ring keeps the child copying for a while, not waiting
            child.send_signal(signal.SIGCONT)
            target = self.head + self.rng.randrange(1, CAPACITY // 2)
            self.sample_until(time.perf_counter() + 0.1, target)
            self.sample_until(time.perf_counter() + self.rng.random() * 50e-6, 1 << 63)
            child.kill()
        self.published = max(self.published, self.board.get("published"))
        self.torn += self.leftover()
        if self.rng.random() < 0.8:  # else the next life begins with frames in the ring
            self.drain()
            assert self.last >= self.published, "a published frame did not arrive"

    def leftover(self) -> bool:
        """Whether the kill left a half-copied payload behind the cursor."""
        head = self.raw.words[layout.WORD_HEAD]
        _, payload, _ = frame_of(self.board.get("published") + 1)
        size = layout.slot_bytes(HEAD.size, len(payload))
        start = layout.start_of(head, size, CAPACITY) % CAPACITY
        at = layout.CONTROL_BYTES + start + layout.payload_offset(HEAD.size)
        found = self.raw.view[at : at + len(payload)]
        return len(payload) > 192 and found[128:192] == payload[128:192] and found != payload


@pytest.fixture
def bench() -> Iterator[Bench]:
    seed = int(os.environ.get("SDA_SEED") or time.time_ns() % 2**32)
    print(f"replay with SDA_SEED={seed}")
    made = Bench(random.Random(seed))
    yield made
    made.close()


def test_every_published_frame_arrives_whole_and_in_order(bench: Bench) -> None:
    bench.lives("good")
    bench.drain()
    assert bench.last >= bench.published > LIVES
    print(f"{LIVES} kills, {bench.last} frames, {bench.repeated} repeated, {bench.torn} torn")


def test_control_with_the_cursor_first_a_kill_leaves_a_torn_frame(bench: Bench) -> None:
    with pytest.raises(Rewind):
        bench.lives("cursor-first", 10 * LIVES)  # usually one of the first three
    print(f"caught in life {bench.life}")


def test_control_pack_into_shows_a_zero_to_others(bench: Bench) -> None:
    seen = zero = False
    with bench.child("scribble"):
        deadline = time.monotonic() + 2
        while not zero and time.monotonic() < deadline:
            values = [bench.board.get("scribble") for _ in range(1000)]
            zero = seen and 0 in values
            seen = seen or any(values)
    if not zero:
        pytest.skip("not observed within two seconds: both processes had to share a core")
