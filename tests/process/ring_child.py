"""The producer process that the ring's kill tests start, kill and start again. Holds no test.

Arguments: mode, three ring descriptors, board descriptor, first sequence number. It publishes the
frames ``frame_of(n)`` one after the other until it is killed or its parent is gone.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

from sda_pipeline.ring import layout, memory
from sda_pipeline.ring.board import Board
from sda_pipeline.ring.endpoints import Producer, wait
from sda_pipeline.ring.memory import RingFds

CAPACITY = 8 << 20  # it takes longer to fill than a slice of the scheduler, so kills hit copies
WORDS = ("published", "scribble")
HEAD = struct.Struct("<Q")
PATTERN = bytes(range(251)) * 1100


@lru_cache
def _variant(number: int) -> tuple[bytes, int]:
    size = number * 37 % 64 * 4000 + number % 7
    payload = PATTERN[number % 251 :][:size]
    return payload, crc32(payload)


def frame_of(number: int) -> tuple[bytes, bytes, int]:
    """Head, payload and its CRC of frame ``number``: up to 246 KiB of a shifted pattern."""
    return HEAD.pack(number), *_variant(number % 128)


class CursorFirst(Producer):
    """A control: the publish order turned round, cursor before header before payload."""

    def try_publish(
        self, head: bytes, payload: Sequence[bytes | memoryview], payload_crc: int
    ) -> bool:
        (part,) = payload
        before, size = self._head, layout.slot_bytes(len(head), len(part))
        start = layout.start_of(before, size, self.capacity)
        if start + size - self._released() > self.capacity:
            return False
        self._words[layout.WORD_HEAD] = self._head = start + size
        if start != before:
            self._write(before, layout.pack_skip(before))
        self._write(start, layout.pack_slot(start, head, len(part), payload_crc))
        self._write(start + layout.payload_offset(len(head)), bytes(part))
        memory.kick(self._fds.data)
        return True

    def _write(self, position: int, data: bytes) -> None:
        at = layout.CONTROL_BYTES + position % self.capacity
        self._mapping.memory[at : at + len(data)] = data


def _scribble(board: Board, parent: int) -> None:
    """A control: write a word that is never 0 in the way that is forbidden."""
    while os.getppid() == parent:
        for _ in range(1000):
            struct.pack_into("<Q", board._mapping.memory, 16, 2**64 - 1)


def _publish(producer: Producer, board: Board, parent: int, number: int) -> None:
    while os.getppid() == parent:
        head, payload, crc = frame_of(number)
        if producer.try_publish(head, [payload], crc):
            board.set("published", number)
            number += 1
        else:
            wait([producer.space_fd], 0.5)


def main() -> None:
    """Do as the arguments say until killed."""
    mode, *numbers = sys.argv[1:]
    ring_memory, data, space, board_fd, number = map(int, numbers)
    board, fds = Board.attach(board_fd, WORDS), RingFds(ring_memory, data, space)
    if mode == "scribble":
        _scribble(board, os.getppid())
    else:
        kind = CursorFirst if mode == "cursor-first" else Producer
        _publish(kind(fds), board, os.getppid(), number)


if __name__ == "__main__":
    main()
