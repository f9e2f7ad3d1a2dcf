"""The correlator's LMDB: retained rows, positions, alerts, outbox, meta. One writer; no decisions.

Everything one batch changes goes into one transaction; the commit is the checkpoint (DESIGN 10).
Each value ends in a CRC-32 of its database, key and content: LMDB itself sees no flipped byte. The
``seal`` beside the meta facts says what all values are together. What to do about damage is decided
in ``recovery.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from sda_pipeline.errors import (
    InvalidConfiguration,
    SdaError,
    StateCorrupt,
    Transient,
    Unreachable,
)
from sda_pipeline.limits import LMDB_MAP_BYTES
from sda_pipeline.records.alert import Entry
from sda_pipeline.state.contents import FORMAT_VERSION, Changes, Contents, Meta
from sda_pipeline.state.environment import DATA_FILE, lmdb_fault, open_environment
from sda_pipeline.state.seal import CRC_BYTES, Seal, SealedWriter, intact, with_crc

__all__ = ["FORMAT_VERSION", "Changes", "Contents", "CorrelatorStore", "Meta"]

_DATABASES = ("rows", "positions", "alerts", "outbox", "meta")
_META, _SEAL = b"meta", b"seal"  # keys of the database of that name
_POSITION = struct.Struct(">Q")  # big-endian: LMDB orders keys by bytes
_ENTRY = struct.Struct("<II")  # kind, count; then the body
_HINT = "start again: it is recovered from a snapshot"


def _row_key(source: str, position: int) -> bytes:
    return source.encode() + b"\0" + _POSITION.pack(position)


def _key_of_rows(key: bytes) -> tuple[str, int]:
    return key[:-9].decode(), _POSITION.unpack(key[-8:])[0]


def _entry(key: bytes, value: bytes) -> Entry:
    kind, count = _ENTRY.unpack_from(value)
    return Entry(_POSITION.unpack(key)[0], kind, count, value[_ENTRY.size :])


class CorrelatorStore:
    """The open environment. ``readonly`` readers (replicator, sources, audit) never write."""

    def __init__(self, path: Path, *, readonly: bool = False, single_file: bool = False) -> None:
        self.path = path
        self._file = path if single_file else path / DATA_FILE
        self.env: lmdb.Environment = open_environment(
            path,
            map_size=LMDB_MAP_BYTES,
            max_dbs=len(_DATABASES),
            readonly=readonly,
            subdir=not single_file,
            lock=not (readonly and single_file),  # a snapshot: nobody writes it
        )
        try:
            self._inode = self._file.stat().st_ino
            self._db: dict[str, Any] = self._open_databases(readonly=readonly)
            self.meta = self._load_meta()
        except lmdb.Error as error:
            self.env.close()
            raise StateCorrupt("open the correlator's store", f"{path}: {error}", _HINT) from error
        except SdaError:
            self.env.close()
            raise

    def _open_databases(self, *, readonly: bool) -> dict[str, Any]:
        """All of them, created in one transaction: a store has every one of them or none."""
        with self.env.begin() as txn:
            names = {bytes(key) for key, _ in txn.cursor()}
        if names and names != {name.encode() for name in _DATABASES}:
            raise self._damaged(f"its databases are {sorted(names)}")
        if readonly or names:
            return {name: self.env.open_db(name.encode(), create=False) for name in _DATABASES}
        with self.env.begin(write=True) as txn:
            return {name: self.env.open_db(name.encode(), txn=txn) for name in _DATABASES}

    def _load_meta(self) -> Meta:
        with self.env.begin() as txn:
            return self._meta_in(txn)

    def _meta_in(self, txn: lmdb.Transaction) -> Meta:
        data = txn.get(_META, db=self._db["meta"])
        if data is None:
            return Meta()
        content = self._checked("meta", _META, bytes(data))
        version = msgspec.msgpack.decode(content).get("format_version")
        if not 1 <= version <= FORMAT_VERSION:
            raise InvalidConfiguration(
                "open the correlator's store",
                [f"{self.path} has format version {version}, this release reads {FORMAT_VERSION}"],
                "use the release that wrote it",
            )
        return msgspec.msgpack.decode(content, type=Meta)

    def _seal_in(self, txn: lmdb.Transaction) -> Seal | None:
        """The seal; None in a store that never had one, StateCorrupt when it is gone."""
        data = txn.get(_SEAL, db=self._db["meta"])
        if data is not None:
            content = self._checked("meta", _SEAL, bytes(data))
            return msgspec.msgpack.decode(content, type=Seal)
        if txn.get(_META, db=self._db["meta"]) and self._meta_in(txn).format_version > 1:
            raise self._damaged("its seal is missing")
        return None

    def _found_in(self, txn: lmdb.Transaction) -> Seal:
        """What a seal of all that is there would say. Reads every value; StateCorrupt at the first
        that is not what was written.
        """
        found = Seal()
        for name in _DATABASES:
            for key, value in txn.cursor(db=self._db[name]):
                if not intact(name, key, value):
                    raise self._damaged(f"a value in {name!r} does not match its CRC")
                if (name, key) != ("meta", _SEAL):
                    found.add(name, bytes(key), value)
        return found

    def _checked(self, name: str, key: bytes, value: bytes) -> bytes:
        """The content of a value; StateCorrupt when it is not what was written."""
        if not intact(name, key, value):
            raise self._damaged(f"a value in {name!r} does not match its CRC")
        return value[:-CRC_BYTES]

    def _damaged(self, why: str) -> StateCorrupt:
        return StateCorrupt("read the correlator's store", f"{self.path}: {why}", _HINT)

    def reload_meta(self) -> Meta:
        """The meta facts as of now, for a reader beside the writer."""
        self.meta = self._load_meta()
        return self.meta

    @property
    def empty(self) -> bool:
        """Nothing was ever committed here."""
        return self.meta.epoch == 0

    @property
    def replaced(self) -> bool:
        """Another environment stands at the path now: this one was moved aside or deleted."""
        try:
            return self._file.stat().st_ino != self._inode
        except FileNotFoundError:
            return True

    def check_values(self) -> None:
        """Read every value; StateCorrupt at the first that is not what was written, or when they
        are not all those that were.
        """
        with self.env.begin(buffers=True) as txn:
            seal, found = self._seal_in(txn), self._found_in(txn)
        for difference in seal.differences(found) if seal is not None else ():
            raise self._damaged(difference)

    def rows(self) -> Iterator[tuple[tuple[str, int], bytes]]:
        """Every retained frame's rows by (source, position), in key order."""
        for key, value in self._items("rows"):
            yield _key_of_rows(key), value

    def positions(self) -> dict[str, bytes]:
        """Encoded source positions by source name."""
        return {key.decode(): value for key, value in self._items("positions")}

    def alerts(self) -> dict[str, bytes]:
        """Encoded alert states by alert id."""
        return {key.decode(): value for key, value in self._items("alerts")}

    def outbox(self) -> list[Entry]:
        """Entries not yet known to be at the sink, in order."""
        return [_entry(key, value) for key, value in self._items("outbox")]

    def contents(self) -> Contents:
        """What the store holds, read in one transaction, so that it all belongs together."""
        with self.env.begin() as txn:
            return Contents(
                self._meta_in(txn),
                {key.decode(): value for key, value in self._in(txn, "positions")},
                {key.decode(): value for key, value in self._in(txn, "alerts")},
                [_entry(key, value) for key, value in self._in(txn, "outbox")],
                {_key_of_rows(key): len(value) for key, value in self._in(txn, "rows")},
                self._seal_in(txn),
                self._found_in(txn),
            )

    def _items(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        with self.env.begin() as txn:
            yield from self._in(txn, name)

    def _in(self, txn: lmdb.Transaction, name: str) -> Iterator[tuple[bytes, bytes]]:
        for key, value in txn.cursor(db=self._db[name]):
            yield bytes(key), self._checked(name, bytes(key), bytes(value))

    def commit(self, changes: Changes, inside: Callable[[], None]) -> None:
        """One write transaction with sync. ``inside`` is called after the last put (a failpoint).

        A failed commit is fatal: the caller must exit, the page cache would lie afterwards.
        """
        meta = changes.meta or self.meta
        version = max(meta.format_version, FORMAT_VERSION)
        meta = msgspec.structs.replace(meta, format_version=version)
        try:
            with self.env.begin(write=True) as txn:
                self._write(txn, changes, meta)
                inside()
        except lmdb.Error as error:
            raise _commit_fault(error) from error
        self.meta = meta

    def _write(self, txn: lmdb.Transaction, changes: Changes, meta: Meta) -> None:
        sealed = SealedWriter(txn, self._db, self._seal_in(txn) or self._found_in(txn))
        for (source, position), data in changes.rows:
            sealed.put("rows", _row_key(source, position), data)
        for key in changes.rows_gone:
            sealed.delete("rows", _row_key(*key))
        for source, data in changes.positions.items():
            sealed.put("positions", source.encode(), data)
        for alert_id, data in changes.alerts.items():
            sealed.put("alerts", alert_id.encode(), data)
        for alert_id in changes.alerts_gone:
            sealed.delete("alerts", alert_id.encode())
        for entry in changes.outbox:
            content = _ENTRY.pack(entry.kind, entry.count) + entry.body
            sealed.put("outbox", _POSITION.pack(entry.position), content)
        if changes.outbox_gone_through:
            for sent in self._outbox_keys(txn, changes.outbox_gone_through):
                sealed.delete("outbox", sent)
        sealed.put("meta", _META, msgspec.msgpack.encode(meta))
        content = msgspec.msgpack.encode(sealed.seal)
        txn.put(_SEAL, with_crc("meta", _SEAL, content), db=self._db["meta"])

    def _outbox_keys(self, txn: lmdb.Transaction, through: int) -> list[bytes]:
        """The keys of the entries up to a position."""
        keys = []
        for key, _ in txn.cursor(db=self._db["outbox"]):
            if _POSITION.unpack(key)[0] > through:
                break
            keys.append(bytes(key))
        return keys

    def sync(self) -> None:
        """Flush what an earlier, killed process may have left in the page cache."""
        self.env.sync(force=True)

    def used_bytes(self) -> int:
        """Bytes of the map in use."""
        info, stat = self.env.info(), self.env.stat()
        return int((info["last_pgno"] + 1) * stat["psize"])

    def close(self) -> None:
        self.env.close()


def _commit_fault(error: lmdb.Error) -> SdaError:
    """What a failed commit means: a disk that fails or is full stops the tree, damage a restart."""
    fault = lmdb_fault("commit the correlator's state", error)
    if isinstance(fault, Transient):
        return Unreachable(fault.action, fault.why, "the state has outgrown its map: report it")
    if isinstance(fault, StateCorrupt):
        return SdaError(fault.action, fault.why, "the restart recovers it from a snapshot")
    return fault
