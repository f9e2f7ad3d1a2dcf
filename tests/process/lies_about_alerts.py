"""Lies in the alert sink's and the subscriber's store, in snapshots and about being complete.

Name -> (the forgery, where an audit must say it is). The state forged is that of test_audit.py.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from tests.process.forgery import Files
from tests.process.lies_about_records import Lie

SINK, SUBSCRIBER = "alerts.sqlite", "subscriber.sqlite"
FIRST = "(SELECT min(position) FROM entries)"
LAST = "(SELECT max(position) FROM entries)"
MIDDLE = f"{FIRST} + 5"


def sink(*statements: str) -> Callable[[Files], None]:
    return lambda files: files.sql("alerts", *statements)


def ledger(*statements: str) -> Callable[[Files], None]:
    return lambda files: files.sql("subscriber", *statements)


def body(key: str, value: str) -> str:
    return f"body = CAST(json_replace(CAST(body AS TEXT), '{key}', {value}) AS BLOB)"


_ONE = "WHERE rowid = (SELECT max(rowid) FROM records WHERE action = 'insert')"
_ROW = "WHERE id = (SELECT max(id) FROM ledger WHERE effect = 'raise')"
_SEEN = "WHERE rowid = (SELECT min(rowid) FROM seen WHERE state = 'active')"

SINK_LIES: dict[str, Lie] = {
    **{f"{name} entry gone": (sink(f"DELETE FROM entries WHERE position = {at}"), SINK)
       for name, at in (("first", FIRST), ("middle", MIDDLE), ("last", LAST))},
    "first entries gone": (sink(f"DELETE FROM entries WHERE position <= {MIDDLE}"), SINK),
    "last entry and its position gone": (
        sink(f"DELETE FROM entries WHERE position = {LAST}",
             f"UPDATE meta SET position = {LAST}"), SUBSCRIBER),
    "an entry's number": (
        sink(f"UPDATE entries SET {body('$[0].miss_m', '1.5')} WHERE position = {FIRST}"), SINK),
    "an entry's level": (
        sink(f"UPDATE entries SET {body('$[0].level', chr(39) + 'WATCH' + chr(39))}"
             f" WHERE position = {FIRST}"), SINK),
    "an entry's kind": (sink(f"UPDATE entries SET kind = 2 WHERE position = {FIRST}"), "outbox"),
    "an entry's count": (sink(f"UPDATE entries SET count = 3 WHERE position = {FIRST}"), SINK),
    "a record gone": (sink(f"DELETE FROM records {_ONE}"), SINK),
    "all records gone": (sink("DELETE FROM records"), SINK),
    "a record doubled": (
        sink("INSERT INTO records SELECT alert_id, sequence + 9, position, action, final, level,"
             f" closes_ns, body, overdue, 0, crc FROM records {_ONE}"), SINK),
    **{f"a record's {name}": (sink(f"UPDATE records SET {name} = {value} {_ONE}"), SINK)
       for name, value in (
           ("alert_id", "'00'"), ("sequence", "sequence + 1"), ("position", "position + 1"),
           ("action", "'retract'"), ("final", "1 - final"), ("level", "'WATCH'"),
           ("closes_ns", "closes_ns + 1"), ("latest", "1 - latest"))},
    "a record's number": (sink(f"UPDATE records SET {body('$.pc', '0.5')} {_ONE}"), SINK),
    **{f"sink stands {by:+}": (sink(f"UPDATE meta SET position = position + {by}"), SINK)
       for by in (1, -1)},
    "sink's newest alert": (
        sink("UPDATE meta SET newest_closes_ns = newest_closes_ns + 1"), SINK),
    "no sink": (lambda f: (f.state / "alerts.sqlite").unlink(), SUBSCRIBER),
}  # fmt: skip

SUBSCRIBER_LIES: dict[str, Lie] = {
    **{f"{name} effect gone": (ledger(f"DELETE FROM ledger WHERE id = {at}"), SUBSCRIBER)
       for name, at in (("first", 1), ("middle", 7), ("last", "(SELECT max(id) FROM ledger)"))},
    "an effect gone, all others renumbered": (
        ledger("DELETE FROM ledger WHERE id = 7",
               "UPDATE ledger SET id = -id WHERE id > 7",
               "UPDATE ledger SET id = -id - 1 WHERE id < 0"), SUBSCRIBER),
    "an effect made up": (
        ledger("INSERT INTO ledger SELECT max(id) + 1, '00', sequence, 'raise', 'RED', 0, position,"
               " at_ns, ingest_ns, crc FROM ledger"), SUBSCRIBER),
    "an effect doubled": (
        ledger("INSERT INTO ledger SELECT max(id) + 1, alert_id, sequence + 5, 'confirm', level, 1,"
               " position, at_ns, ingest_ns, crc FROM ledger"), SUBSCRIBER),
    **{f"an effect's {name}": (ledger(f"UPDATE ledger SET {name} = {value} {_ROW}"), SUBSCRIBER)
       for name, value in (
           ("alert_id", "'00'"), ("sequence", "sequence + 1"), ("effect", "'confirm'"),
           ("level", "'WATCH'"), ("final", "1 - final"), ("position", "position - 1"),
           ("ingest_ns", "ingest_ns + 1"))},
    "a seen alert gone": (ledger(f"DELETE FROM seen {_SEEN}"), SUBSCRIBER),
    "a seen alert made up": (
        ledger("INSERT INTO seen SELECT '00', sequence, state, level, final, closes_ns, body, crc"
               f" FROM seen {_SEEN}"), SUBSCRIBER),
    **{f"a seen alert's {name}": (ledger(f"UPDATE seen SET {name} = {value} {_SEEN}"), SUBSCRIBER)
       for name, value in (
           ("sequence", "sequence + 1"), ("state", "'withdrawn'"), ("level", "'WATCH'"),
           ("final", "1 - final"), ("closes_ns", "closes_ns - 1"), ("body", "x'7b7d'"))},
    **{f"subscriber stands {by:+}": (
        ledger(f"UPDATE meta SET position = position + {by}"), SUBSCRIBER) for by in (1, -5)},
    "subscriber's newest alert": (
        ledger("UPDATE meta SET newest_closes_ns = newest_closes_ns - 1"), SUBSCRIBER),
    "no ledger": (ledger("DELETE FROM ledger"), SUBSCRIBER),
}  # fmt: skip


def manifest(**changes: object) -> Callable[[Files], None]:
    """Change fields of the newest snapshot's manifest."""

    def forge(files: Files) -> None:
        path = max((files.state / "snapshots").glob("*.json"))
        path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | changes))

    return forge


def damaged(files: Files) -> None:
    path = max((files.state / "snapshots").glob("*.snap"))
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)


SNAPSHOT = "snapshot correlator-"
OTHER_LIES: dict[str, Lie] = {
    **{f"snapshot's {name}": (manifest(**{name: value}), SNAPSHOT) for name, value in (
        ("epoch", 9), ("catalogue", "00" * 8), ("closed_to", 1), ("size_bytes", 1),
        ("positions", {"radar": 99}), ("log_ids", {}), ("sha256", "00" * 32), ("sequence", 1))},
    "snapshot's data": (damaged, SNAPSHOT),
    "snapshot without data": (
        lambda f: max((f.state / "snapshots").glob("*.snap")).unlink(), SNAPSHOT),
    "complete": (lambda f: (f.state / "complete").write_text(""), "complete: "),
    "no correlator": (
        lambda f: (f.state / "correlator").rename(f.root / "aside"), "correlator: "),
    "another correlator": (
        lambda f: ((f.state / "correlator").rename(f.root / "aside"), f.commit()), SINK),
    "no log": (lambda f: f.relog("radar", lambda log: []), "correlator positions of radar"),
}  # fmt: skip
