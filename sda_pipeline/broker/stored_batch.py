"""How the embedded broker stores messages: one value per produced batch of a partition. Pure.

A value is a 24-byte head and a msgpack body whose keys and values are lists of byte strings, so
that a reader gets a thousand messages out of it in one call (0.06 us each). Not where it is kept.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from sda_pipeline.broker.port import Headers, OutMessage
from sda_pipeline.errors import StateCorrupt

MAGIC, VERSION = b"SDB1", 1
HEAD = struct.Struct("<4sHHqII")  # magic, version, reserved, appended ns, count, crc
_COVERED = HEAD.size - 4  # the CRC is of the head before it and of the body
assert HEAD.size == 24, "the head is part of the stored format"


class StoredBatch(msgspec.Struct, array_like=True):
    """Messages of one partition with ascending offsets. ``sizes``: bytes of key plus value."""

    timestamps: bytes  # i8[count], ms
    sizes: bytes  # u4[count]
    keys: list[bytes]
    values: list[bytes]
    headers: list[Headers]  # empty when no message has any


class Slice:
    """A decoded batch at its place in a partition: offsets ``base`` to ``end`` (exclusive)."""

    def __init__(self, base: int, batch: StoredBatch) -> None:
        self.base, self.count = base, len(batch.values)
        self.end = base + self.count
        self.keys, self.values, self.headers = batch.keys, batch.values, batch.headers
        self.timestamps: npt.NDArray[np.int64] = np.frombuffer(batch.timestamps, "<i8")
        sizes = np.frombuffer(batch.sizes, "<u4")
        self._before = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))

    def cut(self, start: int, messages: int, size: int) -> int:
        """Where to stop reading from index ``start`` within both bounds (``size`` in bytes)."""
        stop = int(np.searchsorted(self._before, self._before[start] + size, "right")) - 1
        return max(start, min(stop, start + messages, self.count))

    def bytes_between(self, start: int, stop: int) -> int:
        """Bytes of keys and values of the messages start..stop."""
        return int(self._before[stop] - self._before[start])


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StoredBatch)


def encode(messages: Sequence[OutMessage], appended_ns: int) -> bytes:
    """The stored value of one batch; ``appended_ns`` is the wall clock, for the retention."""
    count = len(messages)
    keys, values, timestamps, headers = map(list, zip(*messages, strict=True))
    sizes = np.fromiter(map(len, keys), "<u4", count) + np.fromiter(map(len, values), "<u4", count)
    body = _encoder.encode(
        StoredBatch(
            np.array(timestamps, "<i8").tobytes(),
            sizes.astype("<u4").tobytes(),
            keys,
            values,
            headers if any(headers) else [],
        )
    )
    head = HEAD.pack(MAGIC, VERSION, 0, appended_ns, count, 0)[:_COVERED]
    return b"".join((head, struct.pack("<I", zlib.crc32(body, zlib.crc32(head))), body))


def decode(base: int, data: memoryview, where: str) -> Slice:
    """Read a stored value; StateCorrupt naming ``where`` when it is damaged."""
    _, count, crc = _head(data, where)
    if zlib.crc32(data[HEAD.size :], zlib.crc32(data[:_COVERED])) != crc:
        raise _corrupt(where, "its CRC does not match")
    try:
        batch = _decoder.decode(data[HEAD.size :])
    except msgspec.MsgspecError as error:
        raise _corrupt(where, str(error)) from error
    if {len(batch.keys), len(batch.values), len(batch.timestamps) // 8} != {count}:
        raise _corrupt(where, "its columns do not fit each other")
    return Slice(base, batch)


def appended_and_count(data: memoryview, where: str) -> tuple[int, int]:
    """When a stored value was written (wall clock, ns) and how many messages it holds."""
    appended_ns, count, _ = _head(data, where)
    return appended_ns, count


def chunks(messages: Sequence[OutMessage], most: int, size: int) -> Iterator[Sequence[OutMessage]]:
    """The messages in runs of at most ``most``, and ``size`` bytes of values unless it is one."""
    first, held = 0, 0
    for index, message in enumerate(messages):
        if index > first and (index - first == most or held + len(message.value) > size):
            yield messages[first:index]
            first, held = index, 0
        held += len(message.value)
    if first < len(messages):
        yield messages[first:]


def partition_of(key: bytes, partitions: int) -> int:
    """Stable hash of a key: the same on every machine and in every release."""
    return zlib.crc32(key) % partitions


def _head(data: memoryview, where: str) -> tuple[int, int, int]:
    if len(data) < HEAD.size:
        raise _corrupt(where, f"it has only {len(data)} bytes")
    magic, version, _, appended_ns, count, crc = HEAD.unpack_from(data)
    if magic != MAGIC:
        raise _corrupt(where, f"magic is {magic!r}, not {MAGIC!r}")
    if version != VERSION:
        raise StateCorrupt(
            f"read {where}", f"its version {version} is not {VERSION}", "use its release"
        )
    return appended_ns, count, crc


def _corrupt(where: str, why: str) -> StateCorrupt:
    return StateCorrupt(f"read {where}", why, "move the broker's directory aside")
