"""One lie for every field of what the logs, the DLQ, the outbox and the quarantine hold, record by
record, derived from the records' own definitions, but for those in ``EXEMPT``. As lies_by_field.py.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from sda_pipeline.dlq.entry import SCHEMA_VERSION
from sda_pipeline.dlq.entry import Entry as DlqEntry
from sda_pipeline.dlq.quarantine_file import Line, QuarantineFile, _encode
from sda_pipeline.records.alert import Entry as OutboxEntry
from sda_pipeline.records.frames import Counts, Header, Part
from sda_pipeline.records.rejects import Reject
from sda_pipeline.records.rows import ROW
from tests.process.forgery import Files, Logged
from tests.process.lies_about_records import LOG, Lie, in_log, rejects, renamed, with_first
from tests.process.lies_by_field import other

_NAMED = "the log refuses it: its segment says the same (tests/unit of the log)"
_FITTED = "made to fit, or the frame cannot be taken apart (tests/unit of the frames)"
EXEMPT: dict[str, str] = {
    **dict.fromkeys(("header.source", "header.log_id", "header.position"), _NAMED),
    **dict.fromkeys(("header.rows", "header.length", "header.parts"), _FITTED),
    "header.frame_flags": "whether it may be shed on its way; nothing stored follows from it",
    "dlq.schema_version 1, sealed": "as an older release leaves an entry; its contents are checked",
    "dlq.timestamp_unix_ms": "when it was sent, by the wall clock; the log does not know it",
}


def _header(name: str) -> Callable[[Files], None]:
    return in_log(1, lambda record: record.with_header(**{name: 1}))


def _counts(name: str) -> Callable[[Files], None]:
    return in_log(1, lambda record: record.with_counts(**{name: 1}))


def _part(name: str) -> Callable[[Files], None]:
    return in_log(1, lambda record: record.with_part(**{name: 1}))


def _reject(name: str) -> Callable[[Files], None]:
    def change(found: list[Reject]) -> list[Reject]:
        return [renamed(found[0], **{name: other(getattr(found[0], name))}), *found[1:]]

    return in_log(0, rejects(change))


def _row(name: str) -> Callable[[Files], None]:
    """Of every row of a record, some of which the correlator keeps."""

    def change(record: Logged) -> Logged:
        rows = record.frame.rows.copy()
        assert ROW.fields is not None
        rows.view(np.uint8).reshape(len(rows), ROW.itemsize)[:, ROW.fields[name][1]] ^= 1
        return record.with_rows(rows)

    return in_log(1, change)


def _dlq(name: str) -> Callable[[Files], None]:
    def change(entries: list[DlqEntry]) -> list[DlqEntry]:
        first = next(entry for entry in entries if entry.operator == "radar")
        return with_first(entries, **{name: other(getattr(first, name))})

    return lambda files: files.relist(change)


def _version(version: int, *, sealed: bool) -> Callable[[Files], None]:
    """Of the radar's first entry; the writer knows only the newest. ``sealed``: its CRC fits."""

    def change(line: bytes) -> bytes:
        body, crc, tail = line.rpartition(b',"crc":')
        old, new = (b'"schema_version":%d,' % each for each in (SCHEMA_VERSION, version))
        assert body.count(old) == 1
        body = body.replace(old, new)
        return body + crc + (b"%d}\n" % zlib.crc32(body) if sealed else tail)

    return lambda files: files.reline(b'"operator":"radar"', change)


def _outbox(name: str) -> Callable[[Files], None]:
    def forge(files: Files) -> None:
        last = files.contents().outbox[-1]
        files.commit(outbox=[replace(last, **{name: other(getattr(last, name))})])

    return forge


def _line(name: str) -> Callable[[Files], None]:
    """Of a line that a supervisor has written."""

    def forge(files: Files) -> None:
        path = files.state / "quarantine.jsonl"
        line = Line(
            at="2026-11-23T12:00:00Z", operator="correlator", deaths=3, source="radar",
            generation=0, partition=0, offset=10**9, report=1,
        )  # fmt: skip
        QuarantineFile(path).append(line)
        assert files.audit().faults == []
        changed: Any = msgspec.structs.replace(line, **{name: other(getattr(line, name))})
        path.write_bytes(_encode(changed))

    return forge


GROUPS: dict[str, tuple[Callable[[str], Callable[[Files], None]], tuple[str, ...], str]] = {
    "header": (_header, tuple(Header.__dataclass_fields__), LOG),
    "counts": (_counts, tuple(Counts.__dataclass_fields__), LOG),
    "part": (_part, Part._fields, LOG),
    "reject": (_reject, Reject.__struct_fields__, ""),
    "row": (_row, ROW.names or (), ""),
    "dlq": (_dlq, DlqEntry.__struct_fields__, ""),
    "outbox": (_outbox, tuple(OutboxEntry.__dataclass_fields__), "correlator outbox"),
    "line": (_line, Line.__struct_fields__, "quarantine.jsonl"),
}  # fmt: skip
PLACES = {"header.catalogue": "correlator positions of radar"}

RECORD_LIES: dict[str, Lie] = {
    f"{group}.{name}": (forger(name), PLACES.get(f"{group}.{name}", place))
    for group, (forger, names, place) in GROUPS.items()
    for name in names
}
RECORD_LIES |= {
    "dlq.schema_version": (
        _version(SCHEMA_VERSION + 1, sealed=True), f"its schema version is {SCHEMA_VERSION + 1}"),
    "dlq.schema_version 1": (_version(1, sealed=False), "its CRC is wrong"),
    "dlq.schema_version 1, sealed": (_version(1, sealed=True), ""),
    "header.log_first of record 1": (
        in_log(0, lambda record: record.with_header(log_first=1)), f"{LOG} 1: it says"),
    "header.log_first from nothing": (
        lambda files: files.relog("radar", lambda log: [
            log[0].with_header(log_first=-log[0].header.log_first), *log[1:]]),
        f"{LOG} 2: it says"),
}  # fmt: skip
for _exempt in EXEMPT:
    RECORD_LIES.pop(_exempt)  # KeyError: there is no such field any more
