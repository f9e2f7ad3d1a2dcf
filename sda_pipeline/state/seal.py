"""The seal of the correlator's store: a second witness of all it holds, moved on in the transaction
that changes it. No environment is opened here, and what a difference means is not decided.

A CRC sees a flipped byte. It does not see a value that is gone, nor one that was written by hand
with its CRC; the seal does, as it keeps, of each part of the store, how many values it has, their
bytes and the sum of their CRCs, and of each source how many rows are of which class.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import lmdb

_CRC = struct.Struct("<I")  # closes every value of the store: of its database, key and content
CRC_BYTES = _CRC.size
Data = bytes | memoryview


class Classes(msgspec.Struct, kw_only=True):
    """What became of a source's rows: the part of its ``positions`` entry that the seal repeats."""

    applied: int = 0
    unpaired: int = 0
    duplicate: int = 0
    shed: int = 0
    quarantined: int = 0
    superseded: int = 0
    missing: int = 0


class Sum(msgspec.Struct, array_like=True):
    """Of one part of the store."""

    values: int = 0
    size: int = 0  # bytes of the values
    crcs: int = 0  # sum


class Seal(msgspec.Struct, kw_only=True):
    """``sums`` by part: ``alerts``, ``rows of radar``...; ``classes`` by source."""

    sums: dict[str, Sum] = {}
    classes: dict[str, Classes] = {}

    def add(self, name: str, key: bytes, value: Data) -> None:
        """A value with its CRC is put where none was."""
        part = _part(name, key)
        self._move(part, 1, value)
        if name == "positions":
            self.classes[key.decode()] = _classes_in(value[:-CRC_BYTES])

    def remove(self, name: str, key: bytes, value: Data) -> None:
        """A value with its CRC is deleted, or about to be replaced."""
        self._move(_part(name, key), -1, value)

    def _move(self, part: str, by: int, value: Data) -> None:
        known = self.sums.get(part, Sum())
        (crc,) = _CRC.unpack(value[-CRC_BYTES:])
        new = Sum(known.values + by, known.size + by * len(value), known.crcs + by * crc)
        if new.values:
            self.sums[part] = new
        else:
            self.sums.pop(part, None)

    def differences(self, found: Seal) -> Iterator[str]:
        """What is not as it was committed, beginning with its place; ``found``: what is there."""
        for source in sorted({*self.classes, *found.classes}):
            was, own = self.classes.get(source, Classes()), found.classes.get(source, Classes())
            for name in Classes.__struct_fields__:
                if getattr(was, name) != getattr(own, name):
                    says = f"'{name}' is {getattr(own, name)}, {getattr(was, name)} was committed"
                    yield f"positions of {source}: {says}"
        for part in sorted({*self.sums, *found.sums}):
            then, now = self.sums.get(part, Sum()), found.sums.get(part, Sum())
            if (then.values, then.size) != (now.values, now.size):
                says = f"{now.values} values of {now.size} bytes"
                yield f"{part}: it holds {says}, {then.values} of {then.size} were committed"
            elif then.crcs != now.crcs:
                yield f"{part}: it holds other values than were committed"


def _classes_in(content: Data) -> Classes:
    try:
        return msgspec.msgpack.decode(content, type=Classes)
    except msgspec.MsgspecError:
        return Classes()  # its reader refuses it


def _part(name: str, key: bytes) -> str:
    """Which part of the store a value belongs to; each source has its own."""
    if name == "rows":
        return f"rows of {key[:-9].decode()}"
    return f"positions of {key.decode()}" if name == "positions" else name


class SealedWriter:
    """One write transaction's puts and deletions, and the seal that moves with them."""

    def __init__(self, txn: lmdb.Transaction, db: dict[str, Any], seal: Seal) -> None:
        self._txn, self._db, self.seal = txn, db, seal

    def put(self, name: str, key: bytes, content: bytes) -> None:
        self._forget(name, key)
        value = with_crc(name, key, content)
        self._txn.put(key, value, db=self._db[name])
        self.seal.add(name, key, value)

    def delete(self, name: str, key: bytes) -> None:
        self._forget(name, key)
        self._txn.delete(key, db=self._db[name])

    def _forget(self, name: str, key: bytes) -> None:
        value = self._txn.get(key, db=self._db[name])
        if value is not None:
            self.seal.remove(name, key, value)


def with_crc(name: str, key: bytes, content: bytes) -> bytes:
    """A value as it is stored."""
    return content + _CRC.pack(_crc(name, key, content))


def intact(name: str, key: Data, value: Data) -> bool:
    """Whether a stored value is what was written under this key."""
    return bytes(value[-CRC_BYTES:]) == _CRC.pack(_crc(name, key, value[:-CRC_BYTES]))


def _crc(name: str, key: Data, content: Data) -> int:
    return zlib.crc32(content, zlib.crc32(key, zlib.crc32(name.encode())))
