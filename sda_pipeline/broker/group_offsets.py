"""The embedded broker's committed offsets, an LMDB environment of their own; sources write it.

Not the truth about what was processed: that is the source log. They tell observers and the
retention how far each group has come.

Key: topic NUL partition (u4, big-endian) group -> generation u4, next offset i8.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import lmdb

from sda_pipeline.limits import MIB
from sda_pipeline.state.environment import lmdb_fault, open_environment

MAP_BYTES = 64 * MIB  # a few bytes for each group and partition
_OFFSET = struct.Struct("<Iq")


class GroupOffsets:
    """The open environment."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._environment = open_environment(directory, map_size=MAP_BYTES)

    def close(self) -> None:
        """Release it."""
        self._environment.close()

    def sweep_readers(self) -> None:
        """Free the slots of readers that were killed."""
        self._environment.reader_check()

    def commit(self, topic: str, group: str, offsets: Mapping[int, tuple[int, int]]) -> None:
        """Make (generation, next offset) by partition durable."""
        try:
            with self._environment.begin(write=True) as txn:
                for partition, value in offsets.items():
                    txn.put(_key(topic, partition) + group.encode(), _OFFSET.pack(*value))
        except lmdb.Error as error:
            raise lmdb_fault(f"commit offsets to {self._directory}", error) from error

    def committed(self, topic: str, partition: int) -> dict[str, tuple[int, int]]:
        """(generation, next offset) by group."""
        prefix = _key(topic, partition)
        found: dict[str, tuple[int, int]] = {}
        try:
            with self._environment.begin() as txn:
                cursor = txn.cursor()
                more = cursor.set_range(prefix)
                while more and cursor.key().startswith(prefix):
                    generation, offset = _OFFSET.unpack(cursor.value())
                    found[cursor.key()[len(prefix) :].decode()] = (generation, offset)
                    more = cursor.next()
        except lmdb.Error as error:
            raise lmdb_fault(f"read offsets of {self._directory}", error) from error
        return found

    def committed_by_all(self, topic: str, partition: int, generation: int) -> int:
        """The least offset any group has committed; 0 while one has none in this generation."""
        groups = self.committed(topic, partition).values()
        return min((offset if own == generation else 0 for own, offset in groups), default=0)


def _key(topic: str, partition: int) -> bytes:
    return topic.encode() + b"\0" + partition.to_bytes(4, "big")
