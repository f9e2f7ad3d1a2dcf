"""Rewriting a stopped pipeline's files with valid CRCs, by the project's own writers. No lies yet.

Each tool takes what a file says through a function and writes back what that returns.
"""

from __future__ import annotations

import shutil
import sqlite3
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from sda_pipeline.dlq.entry import Entry, decode_line, encode_line
from sda_pipeline.dlq.quarantine_count import NAME as COUNT_NAME
from sda_pipeline.dlq.quarantine_count import Count, read_count, write_count
from sda_pipeline.dlq.reading import POS_NAME, Pos, jsonl_files
from sda_pipeline.log.source_log import LogStart, SourceLog, read_log
from sda_pipeline.records.frames import Frame, Header, build_payload, parse_payload
from sda_pipeline.records.rejects import Reject, pack_rejects, unpack_rejects
from sda_pipeline.records.rows import Rows
from sda_pipeline.runtime.audit import audit
from sda_pipeline.runtime.audit_report import AuditReport
from sda_pipeline.state.row_crc import row_crc
from sda_pipeline.state.seal import Seal, with_crc
from sda_pipeline.state.store import Changes, Contents, CorrelatorStore, Meta
from sda_pipeline.topology import Topology, from_resolved_json, to_resolved_json

decode, encode = msgspec.msgpack.decode, msgspec.msgpack.encode


class Logged(NamedTuple):
    """One log record, to be changed at will; header and payload are made to fit."""

    header: Header
    frame: Frame
    rejects: list[Reject]

    def with_counts(self, **changes: int) -> Logged:
        """Counts raised by so much."""
        raised = {name: getattr(self.frame.counts, name) + by for name, by in changes.items()}
        counts = replace(self.frame.counts, **raised)
        return self._replace(frame=replace(self.frame, counts=counts))

    def with_part(self, **changes: int) -> Logged:
        """Fields of the first partition's entry raised by so much."""
        part = self.frame.parts[0]
        raised = {name: getattr(part, name) + by for name, by in changes.items()}
        parts = (part._replace(**raised), *self.frame.parts[1:])
        return self._replace(frame=replace(self.frame, parts=parts))

    def with_rows(self, rows: Rows) -> Logged:
        newest = int(rows["t"].max()) if len(rows) else 0
        header = replace(self.header, rows=len(rows), logged=len(rows), max_time=newest)
        return self._replace(header=header, frame=replace(self.frame, rows=rows))

    def with_header(self, **changes: int) -> Logged:
        """Header fields raised by so much."""
        raised = {name: getattr(self.header, name) + by for name, by in changes.items()}
        return self._replace(header=replace(self.header, **raised))


@dataclass(frozen=True)
class Files:
    """The files of a stopped pipeline."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def topology(self) -> Topology:
        return from_resolved_json((self.state / "topology.json").read_bytes())

    def copy_to(self, root: Path) -> Files:
        """A copy whose resolved topology names its own directories."""
        for name in ("state", "subscriber"):
            shutil.copytree(self.root / name, root / name)
        copied = Files(root)
        moved = replace(self.topology, state=copied.state, subscriber=root / "subscriber")
        (copied.state / "topology.json").write_bytes(to_resolved_json(moved))
        return copied

    def audit(self) -> AuditReport:
        return audit(self.topology)

    # --- log ------------------------------------------------------------------------------------

    def log(self, source: str) -> list[Logged]:
        """The records of a source's log."""
        view = read_log(self.state / "log" / source)
        found = []
        for record in view.records(view.first):
            frame = parse_payload(record.header, bytes(record.payload))
            found.append(Logged(record.header, frame, unpack_rejects(record.rejects)))
        return found

    def relog(self, source: str, change: Callable[[list[Logged]], list[Logged]]) -> None:
        """Write a log anew with other records; a ``payload_crc`` that was raised stays raised."""
        directory = self.state / "log" / source
        before = self.log(source)
        records = change(list(before))
        shutil.rmtree(directory)
        start = LogStart(before[0].header.log_id, before[0].header.position)
        crcs = [record.header.payload_crc for record in before]
        with SourceLog.open(directory, before[0].header.source, start) as log:
            for header, frame, rejects in records:
                payload = build_payload(frame.parts, frame.counts, frame.rows)
                crc = zlib.crc32(payload) + (header.payload_crc not in crcs)
                fitted = replace(header, length=len(payload), payload_crc=crc)
                log.append(fitted, payload, pack_rejects(rejects))
            log.sync()

    # --- correlator -----------------------------------------------------------------------------

    def commit(self, **changes: Any) -> None:
        """One transaction in the correlator's store, see ``Changes``, under the seal it had."""
        store = CorrelatorStore(self.state / "correlator")
        seal = self._seal(store)
        store.commit(Changes(**changes), lambda: None)
        if seal is not None:
            self.reseal(lambda _: seal, store)
        store.close()

    @staticmethod
    def _seal(store: CorrelatorStore) -> Seal | None:
        with store.env.begin() as txn:
            return store._seal_in(txn)

    def reseal(self, change: Callable[[Seal], Seal], store: CorrelatorStore | None = None) -> None:
        """Put another seal on the correlator's store."""
        opened = store or CorrelatorStore(self.state / "correlator")
        seal = self._seal(opened)
        assert seal is not None
        value = with_crc("meta", b"seal", encode(change(seal)))
        with opened.env.begin(write=True) as txn:
            txn.put(b"seal", value, db=opened._db["meta"])
        if store is None:
            opened.close()

    def unsealed(self, meta: Meta) -> None:
        """Without a seal, and with these facts, as an older release leaves it."""
        store = CorrelatorStore(self.state / "correlator")
        with store.env.begin(write=True) as txn:
            value = with_crc("meta", b"meta", encode(meta))
            txn.put(b"meta", value, db=store._db["meta"])
        store.close()

    def contents(self) -> Contents:
        store = CorrelatorStore(self.state / "correlator", readonly=True)
        try:
            return store.contents()
        finally:
            store.close()

    def position(self, source: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the correlator's ``positions`` entry of a source, as a plain mapping."""
        entry = decode(self.contents().positions[source])
        change(entry)
        self.commit(positions={source: encode(entry)})

    def alerts(self) -> dict[str, dict[str, Any]]:
        """The correlator's alert states, as plain mappings."""
        return {key: decode(data) for key, data in self.contents().alerts.items()}

    def alert(self, change: Callable[[dict[str, Any]], object], *, final: bool = True) -> None:
        """Change the correlator's state of one alert."""
        states = self.alerts()
        key = next(key for key, state in states.items() if state["final"] is final)
        change(states[key])
        self.commit(alerts={key: encode(states[key])})

    # --- DLQ ------------------------------------------------------------------------------------

    def relist(self, change: Callable[[list[Entry]], list[Entry]]) -> None:
        """Write the newest DLQ file anew; the marks' file speaks of its new length."""
        path = jsonl_files(self.state / "dlq")[-1]
        entries = change([decode_line(line) for line in path.read_bytes().splitlines()])
        path.write_bytes(b"".join(map(encode_line, entries)))
        self.repos(lambda pos: setattr(pos, "length", path.stat().st_size))

    def reline(self, about: bytes, change: Callable[[bytes], bytes]) -> None:
        """Change the first line of the newest DLQ file that holds ``about``, byte for byte."""
        path = jsonl_files(self.state / "dlq")[-1]
        lines = path.read_bytes().splitlines(keepends=True)
        at = next(number for number, line in enumerate(lines) if about in line)
        lines[at] = change(lines[at])
        path.write_bytes(b"".join(lines))
        self.repos(lambda pos: setattr(pos, "length", path.stat().st_size))

    def repos(self, change: Callable[[Pos], object]) -> None:
        """Change the high-water marks' file."""
        path = self.state / "dlq" / POS_NAME
        body, _, _ = path.read_bytes().rstrip().rpartition(b"\n")
        pos = msgspec.json.decode(body, type=Pos)
        change(pos)
        body = msgspec.json.encode(pos)
        path.write_bytes(b"%b\n%08x\n" % (body, zlib.crc32(body)))

    def remark(self, source: str, **changes: Any) -> None:
        """Set fields of one source's mark, raised by so much where they are numbers."""

        def change(pos: Pos) -> None:
            mark = pos.marks[source]
            new = {
                name: by if isinstance(by, bool) else getattr(mark, name) + by
                for name, by in changes.items()
            }
            pos.marks[source] = msgspec.structs.replace(mark, **new)

        self.repos(change)

    def recount(self, change: Callable[[Count], Count]) -> None:
        """Change the count of the quarantine file's lines."""
        path = self.state / COUNT_NAME
        count = read_count(path)
        assert count is not None
        write_count(path, change(count))

    # --- SQLite ---------------------------------------------------------------------------------

    def sql(self, store: str, *statements: str) -> None:
        """Run statements in ``alerts`` or ``subscriber``; every row's CRC is put right after."""
        place = self.state if store == "alerts" else self.root / "subscriber"
        db = sqlite3.connect(place / f"{store}.sqlite", isolation_level=None)
        try:
            for statement in statements:
                assert db.execute(statement).rowcount > 0, f"no row: {statement}"
            for table, columns in CRC_OF[store].items():
                for row, *values in db.execute(f"SELECT rowid, {columns} FROM {table}").fetchall():
                    crc = row_crc(*values)
                    db.execute(f"UPDATE {table} SET crc = ? WHERE rowid = ?", (crc, row))
        finally:
            db.close()


_META = "position, newest_closes_ns"
_WITNESS = "name, count, sum"
CRC_OF = {
    "alerts": {
        "meta": _META,
        "witness": _WITNESS,
        "entries": "position, kind, count, body",
        "records": "alert_id, sequence, position, action, final, level, closes_ns, body",
    },
    "subscriber": {
        "meta": _META,
        "witness": _WITNESS,
        "seen": "alert_id, sequence, state, level, final, closes_ns, body",
        "ledger": "alert_id, sequence, effect, level, final, position, at_ns, ingest_ns",
    },
}
