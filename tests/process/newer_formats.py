"""Every store of a stopped pipeline as a later release might leave it. No test.

Not among them: a DLQ entry, whose unknown versions are skipped, counted and reported (SPEC 7), and
``topology.json``, which every start writes anew.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import orjson

from sda_pipeline.dlq.files import POS_NAME
from sda_pipeline.dlq.quarantine_file import NAME, Line, QuarantineFile
from sda_pipeline.records.frames import HEADER_BYTES
from sda_pipeline.state.contents import FORMAT_VERSION
from sda_pipeline.state.environment import open_environment
from sda_pipeline.state.recovery import CORRELATOR, SNAPSHOTS
from sda_pipeline.state.snapshot import manifest_path, manifests
from sda_pipeline.state.store import Changes, CorrelatorStore
from tests.process.site import Site
from tests.process.state_rig import segment

Newer = Callable[[Site], None]


def newer_log(site: Site) -> None:
    path = segment(site, "optical")
    data = bytearray(path.read_bytes())
    data[4:6] = struct.pack("<H", 2)
    data[60:64] = struct.pack("<I", zlib.crc32(data[:60]))
    path.write_bytes(data)


def newer_frame(site: Site) -> None:
    """The first record of a log, whole in its record's CRC and in its own."""
    path = segment(site, "radar")
    data = bytearray(path.read_bytes())
    length, _ = struct.unpack_from("<II", data, 64)
    body = data[72 : 72 + length]
    body[4:6] = struct.pack("<H", 2)
    body[HEADER_BYTES - 4 : HEADER_BYTES] = struct.pack("<I", zlib.crc32(body[: HEADER_BYTES - 4]))
    data[64 : 72 + length] = struct.pack("<II", length, zlib.crc32(body)) + body
    path.write_bytes(data)


def newer_lmdb(site: Site) -> None:
    path = site.state / CORRELATOR / "data.mdb"
    data = bytearray(path.read_bytes())
    for page in (0, 4096):
        data[page + 20 : page + 24] = struct.pack("=I", 2)
    path.write_bytes(data)


def newer_store(site: Site) -> None:
    store = CorrelatorStore(site.state / CORRELATOR)
    meta = msgspec.structs.replace(store.meta, format_version=FORMAT_VERSION + 1)
    store.commit(Changes(meta=meta), lambda: None)
    store.close()


def newer_snapshot(site: Site) -> None:
    newest = manifests(site.state / SNAPSHOTS)[0]
    path = manifest_path(site.state / SNAPSHOTS, newest.sequence)
    manifest = orjson.loads(path.read_bytes())
    path.write_bytes(orjson.dumps({**manifest, "format_version": FORMAT_VERSION + 1}))


def _newer_sqlite(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        ((version,),) = database.execute("PRAGMA user_version")
        database.execute(f"PRAGMA user_version={version + 1}")


def newer_alerts(site: Site) -> None:
    _newer_sqlite(site.state / "alerts.sqlite")


def newer_subscriber(site: Site) -> None:
    _newer_sqlite(site.root / "subscriber" / "subscriber.sqlite")


def newer_marks(site: Site) -> None:
    """Of a shape this release does not know either."""
    body = orjson.dumps({"format": 2, "by_source": {}})
    (site.state / "dlq" / POS_NAME).write_bytes(b"%b\n%08x\n" % (body, zlib.crc32(body)))


def newer_quarantine(site: Site) -> None:
    line = Line(
        schema_version=2, at="", operator="radar", deaths=3, source="radar", generation=0,
        partition=0, offset=0, report=0,
    )  # fmt: skip
    QuarantineFile(site.state / NAME).append(line)


def newer_broker(site: Site) -> None:
    messages = site.root / "broker" / "messages"
    size = (messages / "data.mdb").stat().st_size
    with (
        closing(open_environment(messages, map_size=2 * size)) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(b"f", b"2")


NEWER: list[Newer] = [
    newer_log, newer_frame, newer_lmdb, newer_store, newer_snapshot, newer_alerts,
    newer_subscriber, newer_marks, newer_quarantine, newer_broker,
]  # fmt: skip
