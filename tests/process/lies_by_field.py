"""One lie for every field of every store, derived from the structs and tables themselves, but for
those in ``EXEMPT``, each with the reason why nothing can tell. Not the lies that take two fields.

A field that is added is lied about from then on: test_audit.py finds out whether audit sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import orjson

from operators.core.alerts import AlertState
from operators.core.positions import SourcePosition
from sda_pipeline.dlq.marks import Mark
from sda_pipeline.dlq.quarantine_count import Count
from sda_pipeline.dlq.reading import Pos
from sda_pipeline.state import alert_view, subscriber_store
from sda_pipeline.state.seal import Classes, Seal, Sum
from sda_pipeline.state.snapshot import Manifest
from sda_pipeline.state.store import Meta
from tests.process.forgery import Files
from tests.process.lies_about_records import Lie

STRUCTS: dict[str, type] = {
    "meta": Meta, "positions": SourcePosition, "alert": AlertState, "seal": Seal, "sum": Sum,
    "classes": Classes, "mark": Mark, "marks": Pos, "quarantine": Count, "manifest": Manifest,
}  # fmt: skip
PLACES = {
    "meta": "correlator", "positions": "correlator positions of radar",
    "alert": "correlator", "seal": "correlator", "sum": "correlator",
    "classes": "correlator positions of radar", "mark": "dlq", "marks": "dlq",
    "quarantine": "quarantine.", "manifest": "correlator-00000",
}  # fmt: skip
_CRC = "a row that does not match its CRC is damage, not a lie: test_sqlite_file.py"
EXEMPT: dict[str, str] = {
    "manifest.created_ns": "wall clock of the copy, for people; nothing else knows it",
    "mark.replaced": "True sends no reject astray: it has the DLQ look for known ones once more",
    "mark.again": "as 'replaced', up to a position; beyond the log's end it is told",
    "marks.oldest": "a file name; of files that are not there it says nothing",
    "alerts.meta.one": "the name of the only row",
    "subscriber.meta.one": "the name of the only row",
    **{f"alerts.{table}.crc": _CRC for table in ("meta", "witness", "entries", "records")},
    **{f"subscriber.{table}.crc": _CRC for table in ("meta", "witness", "seen", "ledger")},
}


def other(value: Any) -> Any:
    """Another value of the same type, as little different as can be."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return value + "0"
        case bytes():
            return value + b"0"
        case None:
            return 1
        case [first, *rest]:
            return [other(first), *rest]
        case dict() if value:
            name = min(value)
            return value | {name: other(value[name])}
        case dict():
            return {"radar": (1, 1)}
        case msgspec.Struct():
            name = value.__struct_fields__[0]
            return msgspec.structs.replace(value, **{name: other(getattr(value, name))})
        case tuple():
            return (*value, 1)
    return 1


def _meta(name: str) -> Callable[[Files], None]:
    def forge(files: Files) -> None:
        meta = files.contents().meta
        if name == "format_version":
            files.unsealed(msgspec.structs.replace(meta, format_version=1))
        else:
            changed = other(getattr(meta, name))
            files.commit(meta=msgspec.structs.replace(meta, **{name: changed}))

    return forge


def _position(name: str) -> Callable[[Files], None]:
    return lambda files: files.position("radar", lambda e: e.update({name: other(e[name])}))


def _alert(name: str) -> Callable[[Files], None]:
    return lambda files: files.alert(lambda state: state.update({name: other(state[name])}))


def _seal(name: str) -> Callable[[Files], None]:
    return lambda f: f.reseal(
        lambda seal: msgspec.structs.replace(seal, **{name: other(getattr(seal, name))})
    )


def _sum(name: str) -> Callable[[Files], None]:
    def change(seal: Seal) -> Seal:
        one = seal.sums["alerts"]
        setattr(one, name, getattr(one, name) + 1)
        return seal

    return lambda files: files.reseal(change)


def _classes(name: str) -> Callable[[Files], None]:
    def change(seal: Seal) -> Seal:
        one = seal.classes["radar"]
        setattr(one, name, getattr(one, name) + 1)
        return seal

    return lambda files: files.reseal(change)


def _mark(name: str) -> Callable[[Files], None]:
    def change(pos: Pos) -> None:
        mark = pos.marks["radar"]
        changed = other(getattr(mark, name))
        pos.marks["radar"] = msgspec.structs.replace(mark, **{name: changed})

    return lambda files: files.repos(change)


def _marks(name: str) -> Callable[[Files], None]:
    return lambda files: files.repos(lambda pos: setattr(pos, name, other(getattr(pos, name))))


def _quarantine(name: str) -> Callable[[Files], None]:
    return lambda files: files.recount(
        lambda count: msgspec.structs.replace(count, **{name: getattr(count, name) + 1})
    )


def _manifest(name: str) -> Callable[[Files], None]:
    def forge(files: Files) -> None:
        path = max((files.state / "snapshots").glob("*.json"))
        told = orjson.loads(path.read_bytes())
        path.write_bytes(orjson.dumps(told | {name: other(told[name])}))

    return forge


FORGERS: dict[str, Callable[[str], Callable[[Files], None]]] = {
    "meta": _meta, "positions": _position, "alert": _alert, "seal": _seal, "sum": _sum,
    "classes": _classes, "mark": _mark, "marks": _marks, "quarantine": _quarantine,
    "manifest": _manifest,
}  # fmt: skip

FLAGS = {"final", "overdue", "latest"}
ROWS_TO_CHANGE = {"witness": "name IN ('records', 'ledger')"}


def columns() -> Iterator[tuple[str, str, str, str]]:
    """(store, table, column, type) of every table, from the schemas."""
    for store, schema in (("alerts", alert_view.SCHEMA), ("subscriber", subscriber_store._SCHEMA)):
        for statement in schema:
            if not statement.startswith("CREATE TABLE"):
                continue
            name, _, body = statement.removeprefix("CREATE TABLE ").partition("(")
            for part in body.rpartition(")")[0].split(","):
                words = part.split()
                if words[1:] and words[1] in {"INTEGER", "TEXT", "BLOB"}:
                    yield store, name, words[0], words[1]


def _column(store: str, table: str, column: str, kind: str) -> Callable[[Files], None]:
    value = {"INTEGER": f"{column} + 1", "TEXT": f"{column} || '0'"}.get(
        kind, f"CAST(CAST({column} AS TEXT) || ' ' AS BLOB)"
    )
    value = f"1 - {column}" if column in FLAGS else value
    where = ROWS_TO_CHANGE.get(table, f"{column} IS NOT NULL")
    row = f"SELECT max(rowid) FROM {table} WHERE {where}"
    return lambda files: files.sql(
        store, f"UPDATE {table} SET {column} = {value} WHERE rowid = ({row})"
    )


FIELD_LIES: dict[str, Lie] = {
    **{f"{what}.{name}": (FORGERS[what](name), PLACES[what])
       for what, struct in STRUCTS.items() for name in struct.__struct_fields__},  # type: ignore[attr-defined]
    **{f"{store}.{table}.{column}": (_column(store, table, column, kind), f"{store}.sqlite")
       for store, table, column, kind in columns()},
}  # fmt: skip
for _exempt in EXEMPT:
    FIELD_LIES.pop(_exempt)  # KeyError: there is no such field any more
