"""The correlator's LMDB: retained rows, positions, alerts, outbox, meta. One writer; no decisions.

Everything one batch changes goes into one transaction; the commit is the checkpoint (DESIGN 10).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from sda_pipeline.errors import InvalidConfiguration, SdaError, StateCorrupt
from sda_pipeline.limits import LMDB_MAP_BYTES
from sda_pipeline.records.alert import Entry
from sda_pipeline.state.environment import open_environment

FORMAT_VERSION = 1
_DATABASES = ("rows", "positions", "alerts", "outbox", "meta")
_POSITION = struct.Struct(">Q")  # big-endian: LMDB orders keys by bytes
_ENTRY = struct.Struct("<II")  # kind, count; then the body


class Meta(msgspec.Struct, kw_only=True):
    """Facts about the store itself."""

    format_version: int = FORMAT_VERSION
    catalogue: int = 0
    epoch: int = 0
    outbox_end: int = 0  # position of the newest outbox entry ever
    outbox_deleted: int = 0  # newest entry deleted because the sink holds it
    closed_to: int = 0  # ns
    snapshot: int = 0  # sequence of the snapshot this store was restored from, 0 for none


@dataclass
class Changes:
    """One transaction's worth of changes. Values are already bytes."""

    rows: list[tuple[tuple[str, int], bytes]] = field(default_factory=list)
    rows_gone: list[tuple[str, int]] = field(default_factory=list)
    positions: dict[str, bytes] = field(default_factory=dict)
    alerts: dict[str, bytes] = field(default_factory=dict)
    alerts_gone: list[str] = field(default_factory=list)
    outbox: list[Entry] = field(default_factory=list)
    outbox_gone_through: int = 0
    meta: Meta | None = None


def _row_key(source: str, position: int) -> bytes:
    return source.encode() + b"\0" + _POSITION.pack(position)


class CorrelatorStore:
    """The open environment. ``readonly`` readers (replicator, sources, audit) never write."""

    def __init__(self, path: Path, *, readonly: bool = False, single_file: bool = False) -> None:
        self.path = path
        self.env: lmdb.Environment = open_environment(
            path,
            map_size=LMDB_MAP_BYTES,
            max_dbs=len(_DATABASES),
            readonly=readonly,
            subdir=not single_file,
        )
        try:
            self._db: dict[str, Any] = {
                name: self.env.open_db(name.encode(), create=not readonly) for name in _DATABASES
            }
            self.meta = self._load_meta()
        except lmdb.Error as error:
            self.env.close()
            raise StateCorrupt("open the correlator's store", f"{path}: {error}") from error

    def _load_meta(self) -> Meta:
        with self.env.begin(db=self._db["meta"]) as txn:
            data = txn.get(b"meta")
        if data is None:
            return Meta()
        version = msgspec.msgpack.decode(data).get("format_version")
        if version != FORMAT_VERSION:
            raise InvalidConfiguration(
                "open the correlator's store",
                [f"{self.path} has format version {version}, this release reads {FORMAT_VERSION}"],
                "use the release that wrote it",
            )
        return msgspec.msgpack.decode(data, type=Meta)

    def reload_meta(self) -> Meta:
        """The meta facts as of now, for a reader beside the writer."""
        self.meta = self._load_meta()
        return self.meta

    @property
    def empty(self) -> bool:
        """Nothing was ever committed here."""
        return self.meta.epoch == 0

    def rows(self) -> Iterator[tuple[tuple[str, int], bytes]]:
        """Every retained frame's rows by (source, position), in key order."""
        with self.env.begin(db=self._db["rows"]) as txn:
            for key, value in txn.cursor():
                source, position = key[:-9].decode(), _POSITION.unpack(key[-8:])[0]
                yield (source, position), value

    def positions(self) -> dict[str, bytes]:
        """Encoded source positions by source name."""
        return {key.decode(): value for key, value in self._items("positions")}

    def alerts(self) -> dict[str, bytes]:
        """Encoded alert states by alert id."""
        return {key.decode(): value for key, value in self._items("alerts")}

    def outbox(self) -> list[Entry]:
        """Entries not yet known to be at the sink, in order."""
        entries = []
        for key, value in self._items("outbox"):
            kind, count = _ENTRY.unpack_from(value)
            entries.append(Entry(_POSITION.unpack(key)[0], kind, count, value[_ENTRY.size :]))
        return entries

    def _items(self, name: str) -> list[tuple[bytes, bytes]]:
        with self.env.begin(db=self._db[name]) as txn:
            return list(txn.cursor())

    def commit(self, changes: Changes, inside: Callable[[], None]) -> None:
        """One write transaction with sync. ``inside`` is called after the last put (a failpoint).

        A failed commit is fatal: the caller must exit, the page cache would lie afterwards.
        """
        try:
            with self.env.begin(write=True) as txn:
                self._write(txn, changes)
                inside()
        except lmdb.Error as error:
            raise SdaError(
                "commit the correlator's state", str(error), "see the runbook"
            ) from error
        if changes.meta is not None:
            self.meta = changes.meta

    def _write(self, txn: lmdb.Transaction, changes: Changes) -> None:
        for (source, position), data in changes.rows:
            txn.put(_row_key(source, position), data, db=self._db["rows"])
        self._delete(txn, "rows", (_row_key(*key) for key in changes.rows_gone))
        for source, data in changes.positions.items():
            txn.put(source.encode(), data, db=self._db["positions"])
        for alert_id, data in changes.alerts.items():
            txn.put(alert_id.encode(), data, db=self._db["alerts"])
        self._delete(txn, "alerts", (alert_id.encode() for alert_id in changes.alerts_gone))
        for entry in changes.outbox:
            value = _ENTRY.pack(entry.kind, entry.count) + entry.body
            txn.put(_POSITION.pack(entry.position), value, db=self._db["outbox"])
        if changes.outbox_gone_through:
            self._delete_outbox(txn, changes.outbox_gone_through)
        if changes.meta is not None:
            txn.put(b"meta", msgspec.msgpack.encode(changes.meta), db=self._db["meta"])

    def _delete(self, txn: lmdb.Transaction, name: str, keys: Iterable[bytes]) -> None:
        for key in keys:
            txn.delete(key, db=self._db[name])

    def _delete_outbox(self, txn: lmdb.Transaction, through: int) -> None:
        cursor = txn.cursor(db=self._db["outbox"])
        cursor.first()
        while (key := cursor.key()) and _POSITION.unpack(key)[0] <= through:
            cursor.delete()

    def sync(self) -> None:
        """Flush what an earlier, killed process may have left in the page cache."""
        self.env.sync(force=True)

    def used_bytes(self) -> int:
        """Bytes of the map in use."""
        info, stat = self.env.info(), self.env.stat()
        return int((info["last_pgno"] + 1) * stat["psize"])

    def close(self) -> None:
        self.env.close()
