"""The embedded broker's topics and messages in LMDB, beside them the groups' offsets.

Transactions only: waiting, batching and the ports are in ``embedded.py``. Messages are written by
any number of producer processes, offsets by the sources alone, in an environment of their own
(``group_offsets.py``), so a commit never waits for a producer. A process that opens the same
directory again shares the handle: LMDB allows one.

Keys (big-endian numbers): ``f`` format; ``t`` topic -> number and partitions; ``p`` number,
partition -> generation, start, end; ``b`` number, partition, base offset -> a stored batch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import NamedTuple, TypeAlias

import lmdb

from sda_pipeline.broker import stored_batch
from sda_pipeline.broker.group_offsets import GroupOffsets
from sda_pipeline.broker.stored_batch import Slice
from sda_pipeline.errors import (
    BrokerFull,
    InvalidConfiguration,
    SdaError,
    StateCorrupt,
    Unreachable,
)
from sda_pipeline.limits import MIB
from sda_pipeline.state.environment import lmdb_fault, open_environment

FORMAT = b"1"
FULL_ABOVE = 31 / 32  # of the map; a full one could not even write what a deletion needs
PURGE_BATCHES_MAX = 512  # in one transaction, so that it stays short

_TOPIC = struct.Struct(">II")
_PART_KEY = struct.Struct(">cII")
_BATCH_KEY = struct.Struct(">cIIQ")
_PART = struct.Struct("<Iqq")

Reading: TypeAlias = "lmdb.Transaction[memoryview]"


class Topic(NamedTuple):
    """A topic's number in the keys, and its partitions 0 to ``partitions - 1``."""

    number: int
    partitions: int


class Part(NamedTuple):
    """One partition: readable offsets are ``start`` to ``end`` (exclusive)."""

    generation: int
    start: int
    end: int


class Storage:
    """The open environments of one broker directory. Use ``open_storage``."""

    def __init__(self, directory: Path, map_size: int) -> None:
        self.directory = directory
        self.users = 0
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Unreachable(
                f"open the broker {directory}", error.strerror or str(error), "choose another place"
            ) from error
        self._messages = open_environment(directory / "messages", map_size=map_size)
        try:
            self._check_format()
            self.offsets = GroupOffsets(directory / "offsets")
        except SdaError:
            self._messages.close()
            raise

    def close(self) -> None:
        """Give up one use; the last one closes the environments."""
        with _lock:
            self.users -= 1
            if self.users == 0:
                _open.pop(self.directory, None)
                self._messages.close()
                self.offsets.close()

    def sweep_readers(self) -> None:
        """Free the slots of readers that were killed; they would pin deleted pages."""
        self._messages.reader_check()
        self.offsets.sweep_readers()

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """A short read transaction on the messages."""
        try:
            with self._messages.begin(buffers=True) as txn:
                yield txn
        except lmdb.Error as error:
            raise lmdb_fault(f"read the broker {self.directory}", error) from error

    # --- topics -----------------------------------------------------------------------------

    def topic(self, txn: Reading, name: str) -> Topic | None:
        """The topic, None when there is no such."""
        data = txn.get(b"t" + name.encode())
        return Topic(*_TOPIC.unpack(data)) if data else None

    def part(self, txn: Reading, topic: Topic, partition: int) -> Part:
        """The state of one partition."""
        data = txn.get(_PART_KEY.pack(b"p", topic.number, partition))
        if data is None:
            raise StateCorrupt(f"read the broker {self.directory}", f"no partition {partition}")
        return Part(*_PART.unpack(data))

    def ensure_topic(self, name: str, partitions: int, *, grow: bool) -> Topic:
        """The topic, created with ``partitions``; an existing one gets more only with ``grow``."""
        assert partitions >= 1, "a topic has a partition"
        assert name, "a topic has a name"
        assert "\0" not in name, "NUL ends a topic's name in a key"
        with self.reading() as reader:
            topic = self.topic(reader, name)
        if topic is not None and (topic.partitions >= partitions or not grow):
            return topic
        with self._writing(f"create topic {name}") as txn:
            topic = self.topic(txn, name)  # another process may have been faster
            number = topic.number if topic else self._next_number(txn)
            have = topic.partitions if topic else 0
            if topic is None or (grow and have < partitions):
                for partition in range(have, partitions):
                    self._put_part(txn, number, partition, Part(0, 0, 0))
                topic = Topic(number, max(have, partitions))
                txn.put(b"t" + name.encode(), _TOPIC.pack(*topic))
        return topic

    def recreate_topic(self, name: str) -> None:
        """Drop a topic's messages; its partitions begin anew at 0 with the next generation."""
        with self._writing(f"recreate topic {name}") as txn:
            topic = self.topic(txn, name)
            if topic is None:
                return
            for partition in range(topic.partitions):
                part = self.part(txn, topic, partition)
                for base, _ in self._batches(txn, topic, partition, part.start):
                    txn.delete(_BATCH_KEY.pack(b"b", topic.number, partition, base))
                fresh = Part(part.generation + 1, 0, 0)
                self._put_part(txn, topic.number, partition, fresh)

    # --- messages ---------------------------------------------------------------------------

    def append(self, name: str, values: Mapping[int, Sequence[tuple[bytes, int]]]) -> None:
        """Store encoded batches (value, count) at the ends of their partitions: all or none."""
        size = sum(len(value) for batches in values.values() for value, _ in batches)
        with self._writing(f"produce to {name}") as txn:
            topic = self.topic(txn, name)
            if topic is None:
                raise SdaError(f"produce to {name}", "there is no such topic", "create it first")
            self._refuse_when_full(name, txn, size)
            for partition, batches in values.items():
                generation, start, end = self.part(txn, topic, partition)
                for value, count in batches:
                    txn.put(_BATCH_KEY.pack(b"b", topic.number, partition, end), value)
                    end += count
                self._put_part(txn, topic.number, partition, Part(generation, start, end))

    def batch_at(self, txn: Reading, topic: Topic, partition: int, offset: int) -> Slice:
        """The decoded batch that holds ``offset``, which must be inside its partition."""
        where = f"{self.directory} topic {topic.number} partition {partition} offset {offset}"
        cursor = txn.cursor()
        key = _BATCH_KEY.pack(b"b", topic.number, partition, offset)
        found = cursor.set_range(key) and bytes(cursor.key()) == key
        if not found:
            found = cursor.prev() if cursor.key() else cursor.last()
        if found:
            kind, number, part, base = _unpack_batch_key(cursor.key())
            if (kind, number, part) == (b"b", topic.number, partition):
                piece = stored_batch.decode(base, cursor.value(), where)
                if offset < piece.end:
                    return piece
        raise StateCorrupt(f"read {where}", "no batch holds it", "move the directory aside")

    def settle(self) -> None:
        """Commit a transaction of no consequence: LMDB reuses a freed page in the next but one."""
        with self._writing("write") as txn:
            txn.put(b"f", FORMAT)

    def purge(self, name: str, older_than_ns: int) -> int:
        """Delete batches that every group has committed and that were written before that time.

        Returns how many; at most PURGE_BATCHES_MAX, the oldest first.
        """
        deleted = 0
        with self._writing(f"delete old messages of {name}") as txn:
            topic = self.topic(txn, name)
            for partition in range(topic.partitions if topic else 0):
                assert topic is not None
                part = self.part(txn, topic, partition)
                floor = self.offsets.committed_by_all(name, partition, part.generation)
                start = part.start
                for base, value in self._batches(txn, topic, partition, start):
                    appended, count = stored_batch.appended_and_count(value, f"{name}@{base}")
                    wanted = base + count <= floor and appended < older_than_ns
                    if not wanted or deleted == PURGE_BATCHES_MAX:
                        break
                    txn.delete(_BATCH_KEY.pack(b"b", topic.number, partition, base))
                    start, deleted = base + count, deleted + 1
                if start != part.start:
                    self._put_part(txn, topic.number, partition, part._replace(start=start))
        return deleted

    # --- inside -----------------------------------------------------------------------------

    @contextmanager
    def _writing(self, action: str) -> Iterator[Reading]:
        """A write transaction on the messages, committed with sync; BrokerFull when it is full."""
        try:
            with self._messages.begin(write=True, buffers=True) as txn:
                yield txn
        except lmdb.MapFullError as error:
            raise self._full(action) from error
        except lmdb.Error as error:
            raise lmdb_fault(f"{action} in {self.directory}", error) from error

    def _refuse_when_full(self, name: str, txn: Reading, more: int) -> None:
        info, stat = self._messages.info(), txn.stat()
        pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        if pages * stat["psize"] + more > info["map_size"] * FULL_ABOVE:
            raise self._full(f"produce to {name}")

    def _full(self, action: str) -> BrokerFull:
        size = self._messages.info()["map_size"] // MIB
        return BrokerFull(
            action,
            f"the broker {self.directory} is full ({size} MiB)",
            "it empties as the sources commit and the retention passes",
        )

    def _batches(
        self, txn: Reading, topic: Topic, partition: int, start: int
    ) -> Iterator[tuple[int, memoryview]]:
        """(base, value) of the stored batches from ``start`` on; each may be deleted meanwhile."""
        key = _BATCH_KEY.pack(b"b", topic.number, partition, start)
        cursor = txn.cursor()
        while cursor.set_range(key):
            kind, number, part, base = _unpack_batch_key(cursor.key())
            if (kind, number, part) != (b"b", topic.number, partition):
                return
            yield base, cursor.value()
            key = _BATCH_KEY.pack(b"b", topic.number, partition, base + 1)

    def _next_number(self, txn: Reading) -> int:
        numbers = [-1]
        cursor = txn.cursor()
        more = cursor.set_range(b"t")
        while more and bytes(cursor.key()[:1]) == b"t":
            numbers.append(_TOPIC.unpack(cursor.value())[0])
            more = cursor.next()
        return max(numbers) + 1

    def _put_part(self, txn: Reading, number: int, partition: int, part: Part) -> None:
        txn.put(_PART_KEY.pack(b"p", number, partition), _PART.pack(*part))

    def _check_format(self) -> None:
        with self.reading() as reader:
            data = reader.get(b"f")
            found = bytes(data) if data is not None else None
        if found is None:
            with self._writing("create the broker") as txn:
                txn.put(b"f", FORMAT)
        elif found != FORMAT:
            version, hint = found.decode(errors="replace"), "use the release that wrote it"
            why = f"it has format version {version}, this release reads {FORMAT.decode()}"
            raise InvalidConfiguration(f"open the broker {self.directory}", [why], hint)


_open: dict[Path, Storage] = {}
_lock = Lock()


def open_storage(directory: Path, map_size: int) -> Storage:
    """The storage of a directory, shared inside this process; each user closes it once."""
    directory = directory.resolve()
    with _lock:
        storage = _open.get(directory)
        if storage is None:
            storage = _open[directory] = Storage(directory, map_size)
        storage.users += 1
        return storage


def _unpack_batch_key(key: memoryview) -> tuple[bytes, int, int, int]:
    """Its four parts; anything shorter is another kind of key."""
    if len(key) != _BATCH_KEY.size:
        return b"", 0, 0, 0
    kind, number, partition, base = _BATCH_KEY.unpack(key)
    return kind, number, partition, base
