"""Where everything lies in a ring's memory, as arithmetic. Pure: no mapping, no waiting.

One control page, then ``capacity`` bytes of slots. Positions are byte counts since the ring was
made; they only grow, the physical place is ``position % capacity``. A slot is contiguous: one that
would cross the end of the ring starts at the next lap, and a skip marker stands where it would have
begun.

Slot: payload length u4, head length u4, payload CRC-32, header CRC-32; head, padded to 8; payload;
padded to 16. The header CRC covers the slot's own position, so what an earlier lap left behind
never passes for new.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

from sda_pipeline.limits import RING_FRAMES_MIN

MAGIC = 0x31474E4952414453  # "SDARING1" read as a little-endian word
CACHE_LINE_BYTES = 64
CONTROL_BYTES = 4096  # the first page; slots start on the next
ALIGN = 16  # of slots: the size of a slot header, so a skip marker always fits before the end
HEAD_ALIGN = 8  # of the payload: numpy reads 8-byte columns in place

# Indices of u64 words in the control page. Each cursor has one writer and a cache line of its own.
WORD_MAGIC, WORD_CAPACITY = 0, 1  # the creator, once
WORD_HEAD = CACHE_LINE_BYTES // 8  # the producer: everything below is published
WORD_RELEASED = 2 * CACHE_LINE_BYTES // 8  # the consumer: everything below may be overwritten
WORD_CREDIT = 3 * CACHE_LINE_BYTES // 8  # the consumer: bytes the producer may be ahead of released

CAPACITY_MIN = 512  # below it two slots of a quarter each, with headers and a skip, might not fit
CAPACITY_MAX = 1 << 31  # a slot's length is a u4, its largest value is the skip marker

SLOT = struct.Struct("<IIII")
_COVERED = struct.Struct("<QIII")  # position, then the first three fields of SLOT
_SKIP = 0xFFFF_FFFF

assert SLOT.size == ALIGN, "a skip marker must fit in the smallest rest of a lap"
assert ALIGN % HEAD_ALIGN == 0
assert CAPACITY_MAX < _SKIP


class DamageError(Exception):
    """The bytes at a published position are not a slot. Never leaves the ring package."""


class Located(NamedTuple):
    """A checked slot: physical byte ranges of head and payload, and the position behind it."""

    head_at: int
    head_end: int
    payload_at: int
    payload_end: int
    payload_crc: int
    end: int


def rounded_capacity(capacity: int) -> int:
    """``capacity`` rounded up to whole cache lines and to the smallest ring."""
    return max(CAPACITY_MIN, -(-capacity // CACHE_LINE_BYTES) * CACHE_LINE_BYTES)


def frame_bytes_max(capacity: int) -> int:
    """The largest head + payload a ring of ``capacity`` bytes takes."""
    return capacity // RING_FRAMES_MIN


def payload_offset(head_length: int) -> int:
    """Bytes from the start of a slot to its payload."""
    return SLOT.size + (head_length + HEAD_ALIGN - 1) // HEAD_ALIGN * HEAD_ALIGN


def slot_bytes(head_length: int, length: int) -> int:
    """Bytes a slot takes with its header and padding."""
    return (payload_offset(head_length) + length + ALIGN - 1) // ALIGN * ALIGN


def start_of(position: int, size: int, capacity: int) -> int:
    """Where a slot of ``size`` bytes starts when everything below ``position`` is taken."""
    rest = capacity - position % capacity
    return position if size <= rest else position + rest


def pack_slot(position: int, head: bytes, length: int, payload_crc: int) -> bytes:
    """Slot header and head for a slot that starts at ``position``."""
    crc = _header_crc(position, length, len(head), payload_crc, head)
    return SLOT.pack(length, len(head), payload_crc, crc) + head


def pack_skip(position: int) -> bytes:
    """The marker that sends a reader at ``position`` to the start of the next lap."""
    return SLOT.pack(_SKIP, 0, 0, _header_crc(position, _SKIP, 0, 0, b""))


def locate(data: memoryview, position: int, published: int) -> Located:
    """The slot at ``position`` of the slots ``data`` (u1[capacity]), following one skip marker.

    Raises DamageError when its header CRC is wrong or it does not end at or before ``published``.
    """
    capacity = len(data)
    at = position % capacity
    length, head_length, payload_crc, crc = SLOT.unpack_from(data, at)
    if length == _SKIP:
        if crc != _header_crc(position, length, head_length, payload_crc, b""):
            raise DamageError(f"the CRC of the skip marker at {position} does not match")
        position += capacity - at
        if position >= published:
            raise DamageError(f"a skip marker leads to {position}, where nothing is published")
        at = 0
        length, head_length, payload_crc, crc = SLOT.unpack_from(data, 0)
    size = slot_bytes(head_length, length)
    if position + size > published or at + size > capacity:
        raise DamageError(f"the slot at {position} claims {size} bytes, more than are published")
    head_at = at + SLOT.size
    head_end = head_at + head_length
    if crc != _header_crc(position, length, head_length, payload_crc, data[head_at:head_end]):
        raise DamageError(f"the header CRC of the slot at {position} does not match")
    payload_at = at + payload_offset(head_length)
    return Located(head_at, head_end, payload_at, payload_at + length, payload_crc, position + size)


def cursor_fault(head: int, released: int, capacity: int) -> str:
    """What is wrong with a pair of cursors; empty when nothing is."""
    if head % ALIGN or released % ALIGN:
        return f"the cursors {released} and {head} are not multiples of {ALIGN}"
    if not released <= head <= released + capacity:
        return f"head {head} is not within {capacity} bytes after released {released}"
    return ""


def _header_crc(
    position: int, length: int, head_length: int, payload_crc: int, head: bytes | memoryview
) -> int:
    return crc32(head, crc32(_COVERED.pack(position, length, head_length, payload_crc)))
