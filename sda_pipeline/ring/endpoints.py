"""The two ends of a ring, and waiting. Not durable: a new consumer reads again from ``released``.

One living producer and one living consumer per ring; the supervisor waits for the death of a
predecessor before it starts a successor. Every cursor read is checked, and each end compares its
own words with what it last wrote: anything odd is a Rewind, never a guess.
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from sda_pipeline.clock import Clock, SystemClock
from sda_pipeline.errors import Rewind, SdaError
from sda_pipeline.ring import layout, memory
from sda_pipeline.ring.layout import WORD_CREDIT, WORD_HEAD, WORD_RELEASED
from sda_pipeline.ring.memory import RingFds

RETRIES = 5  # a weakly ordered CPU shows the cursor before the bytes for microseconds, not longer
RETRY_S = 0.001
_HINT = "the supervisor makes new rings and replays"


class Slot(NamedTuple):
    """One frame in the ring. The views are read-only and valid until ``end`` is released."""

    head: memoryview
    payload: memoryview
    payload_crc: int
    end: int


class _Endpoint:
    """What both ends share: the mapping, the sizes, and how they complain."""

    def __init__(self, fds: RingFds) -> None:
        self._fds = fds
        self._mapping = memory.Mapping(fds.memory)
        self._words = self._mapping.words
        self.capacity = len(self._mapping.view) - layout.CONTROL_BYTES
        fault = self._attach_fault()
        if fault:
            self._mapping.close()
            raise self._rewind("attach to", fault)

    def close(self) -> None:
        """Unmap. The descriptors stay open: they belong to whoever made or inherited them."""
        self._mapping.close()

    def _attach_fault(self) -> str:
        words = self._words
        if words[layout.WORD_MAGIC] != layout.MAGIC:
            return "it is not marked as a ring"
        if words[layout.WORD_CAPACITY] != self.capacity:
            return f"it says {words[layout.WORD_CAPACITY]} bytes but has {self.capacity}"
        return layout.cursor_fault(words[WORD_HEAD], words[WORD_RELEASED], self.capacity)

    def _rewind(self, action: str, why: str) -> Rewind:
        return Rewind(f"{action} the ring {memory.name_of(self._fds.memory)}", why, _HINT)


class Producer(_Endpoint):
    """The writing end; its only word is ``head``."""

    def __init__(self, fds: RingFds) -> None:
        super().__init__(fds)
        self.space_fd = fds.space  # readable after the consumer released or gave credit
        self.frame_bytes_max = layout.frame_bytes_max(self.capacity)
        self._head = self._words[WORD_HEAD]
        memory.kick(fds.data)  # a predecessor may have died between its cursor and its signal

    def occupied(self) -> int:
        """Bytes published and not yet released. Rewind when the cursors are damaged."""
        return self._head - self._released()

    def try_publish(
        self, head: bytes, payload: Sequence[bytes | memoryview], payload_crc: int
    ) -> bool:
        """Publish one frame: ``head``, then the parts of ``payload`` put together.

        False when there is no room or no credit: wait on ``space_fd`` and try again. SdaError when
        head and payload are over a quarter of the ring, Rewind when the cursors are damaged.
        """
        length = sum(map(_size, payload))
        if len(head) + length > self.frame_bytes_max:
            raise self._too_large(len(head) + length)
        size = layout.slot_bytes(len(head), length)
        released = self._released()
        start = layout.start_of(self._head, size, self.capacity)
        end = start + size
        if end - released > min(self._words[WORD_CREDIT], self.capacity):
            return False
        ring = self._mapping.memory
        # 1. payload: bytes below the cursor nobody reads yet, so a kill here harms nothing
        slot_at = layout.CONTROL_BYTES + start % self.capacity
        at = slot_at + layout.payload_offset(len(head))
        for part in payload:
            ring[at : at + _size(part)] = part
            at += _size(part)
        # 2. header, and the marker that leads to it when it starts a new lap
        packed = layout.pack_slot(start, head, length, payload_crc)
        ring[slot_at : slot_at + len(packed)] = packed
        if start != self._head:
            skip_at = layout.CONTROL_BYTES + self._head % self.capacity
            ring[skip_at : skip_at + layout.SLOT.size] = layout.pack_skip(self._head)
        # 3. cursor: one aligned store; from here on the frame is published
        self._words[WORD_HEAD] = self._head = end
        memory.kick(self._fds.data)
        return True

    def _released(self) -> int:
        head, released = self._words[WORD_HEAD], self._words[WORD_RELEASED]
        if head != self._head:
            raise self._rewind("write", f"its head is {head}, not the {self._head} last written")
        fault = layout.cursor_fault(head, released, self.capacity)
        if fault:
            raise self._rewind("write", fault)
        return released

    def _too_large(self, size: int) -> SdaError:
        return SdaError(
            f"publish a frame of {size} bytes to {memory.name_of(self._fds.memory)}",
            f"a ring of {self.capacity} bytes takes frames of at most {self.frame_bytes_max}",
            "raise the edge's capacity",
        )


class Consumer(_Endpoint):
    """The reading end; its words are ``released`` and ``credit``.

    Attaching gives full credit: holding back is a decision of the living consumer, not of a dead
    one.
    """

    def __init__(self, fds: RingFds, clock: Clock | None = None) -> None:
        super().__init__(fds)
        self.data_fd = fds.data  # readable after the producer published
        self._clock = clock or SystemClock()
        self._data = self._mapping.view[layout.CONTROL_BYTES :]
        self._next = self._released = self._words[WORD_RELEASED]
        self._seen = self._words[WORD_HEAD]
        self._credit = self._words[WORD_CREDIT] = self.capacity
        memory.kick(fds.space)  # a predecessor may have died between its cursor and its signal

    def read(self) -> Slot | None:
        """The next slot after the last one read, or None. Its header is checked, not its payload.

        Rewind when a cursor or the slot's header is damaged.
        """
        published = self._published()
        if self._next == published:
            return None
        for attempt in range(RETRIES + 1):
            try:
                found = layout.locate(self._data, self._next, published)
            except layout.DamageError as error:
                if attempt == RETRIES:
                    raise self._rewind("read", str(error)) from error
                self._clock.sleep(RETRY_S)
            else:
                break
        self._next = found.end
        return Slot(
            self._data[found.head_at : found.head_end],
            self._data[found.payload_at : found.payload_end],
            found.payload_crc,
            found.end,
        )

    def verify(self, slot: Slot) -> None:
        """Check the payload's CRC-32, as the final reader does. Rewind when it is wrong."""
        for _ in range(RETRIES):
            if crc32(slot.payload) == slot.payload_crc:
                return
            self._clock.sleep(RETRY_S)
        if crc32(slot.payload) != slot.payload_crc:
            raise self._rewind("read", f"the payload CRC of the slot before {slot.end} is wrong")

    def release(self, end: int) -> None:
        """Give back everything below ``end``, the end of a slot read here; its views end too."""
        assert self._released <= end <= self._next, f"release of {end}, read up to {self._next}"
        self._check_own_words()
        self._words[WORD_RELEASED] = self._released = end
        memory.kick(self._fds.space)

    def empty(self) -> bool:
        """Whether nothing is left to read. Rewind when a cursor is damaged."""
        return self._next == self._published()

    def set_credit(self, size: int) -> None:
        """Let the producer be at most ``size`` bytes ahead of released; 0 pauses it.

        Less than the next slot takes pauses it too. More than the capacity means the capacity.
        """
        assert size >= 0, "credit is a number of bytes"
        self._check_own_words()
        before, self._credit = self._credit, min(size, self.capacity)
        self._words[WORD_CREDIT] = self._credit
        if self._credit > before:
            memory.kick(self._fds.space)

    def close(self) -> None:
        """Unmap; slots still held stay readable until they are dropped."""
        self._data.release()
        super().close()

    def _check_own_words(self) -> None:
        if self._words[WORD_RELEASED] != self._released or self._words[WORD_CREDIT] != self._credit:
            raise self._rewind("read", "its released or credit word is not what was last written")

    def _published(self) -> int:
        self._check_own_words()
        head = self._words[WORD_HEAD]
        fault = layout.cursor_fault(head, self._released, self.capacity)
        if not fault and head < self._seen:
            fault = f"head went back from {self._seen} to {head}"
        if fault:
            raise self._rewind("read", fault)
        self._seen = head
        return head


def wait(fds: Sequence[int], timeout_s: float) -> None:
    """Wait until one of ``fds`` (eventfds, wake-up pipes) is readable or time is up; drain it.

    Check first, then wait, then check again: a signal sent in between is kept by the eventfd.
    Signals of the operating system do not shorten it (PEP 475); a handler that must be noticed
    writes to one of ``fds``.
    """
    assert timeout_s >= 0, "no wait without a bound"
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    for fd, _ in poll.poll(timeout_s * 1000):
        memory.drain(fd)


def _size(part: bytes | memoryview) -> int:
    return part.nbytes if isinstance(part, memoryview) else len(part)
