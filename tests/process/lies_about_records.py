"""Lies in the source logs, the correlator's store and the DLQ: one counter or one file each.

Name -> (the forgery, where an audit must say it is). The state forged is that of test_audit.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from sda_pipeline.dlq.entry import Entry, dlq_id
from sda_pipeline.dlq.reading import POS_NAME
from sda_pipeline.records.alert import Entry as OutboxEntry
from sda_pipeline.records.frames import KIND_IDLE, Counts
from sda_pipeline.records.rejects import Reject
from sda_pipeline.state.store import Contents, CorrelatorStore
from tests.process.forgery import Files, Logged

T = TypeVar("T")
Lie = tuple[Callable[[Files], object], str]
LOG, POSITIONS, OUTBOX = "radar log position", "correlator positions of radar", "correlator outbox"
META, STATE, ROWS = "correlator meta", "correlator state of alert", "correlator rows"
DLQ, MARK = "dlq: ", "dlq high-water mark of radar"
COUNTS = tuple(Counts.__dataclass_fields__)
CLASSES = ("applied", "unpaired", "duplicate", "shed", "quarantined", "superseded", "missing")
S = 10**9


def in_log(at: int, change: Callable[[Logged], Logged]) -> Callable[[Files], None]:
    """A forgery of one record of the radar's log."""

    def forge(files: Files) -> None:
        files.relog("radar", lambda log: [change(r) if r is log[at] else r for r in log])

    return forge


def without_row(record: Logged) -> Logged:
    return record.with_rows(record.frame.rows[1:])


def late_instead(record: Logged, changed: Logged) -> Logged:
    """A row of the changed record counts as late, there and ever after."""
    less = without_row(record) if record is changed else record
    return less.with_counts(rows=-1, late=1)


def after(log: list[Logged], record: Logged) -> Logged:
    """A record once more, after the last one."""
    return record.with_header(position=log[-1].header.position + 1 - record.header.position)


def idle(log: list[Logged]) -> Logged:
    """A marker after the last record that moves the partition, and says otherwise in its header."""
    marker = after(log, log[-1].with_rows(log[-1].frame.rows[:0])._replace(rejects=[]))
    kind = KIND_IDLE - marker.header.kind
    return marker.with_header(kind=kind).with_part(watermark=5 * S)


def other_row(record: Logged) -> Logged:
    rows = record.frame.rows.copy()
    rows["vec"][:, 0] += 1.0
    return record.with_rows(rows)


def late_row(record: Logged) -> Logged:
    rows = record.frame.rows.copy()
    rows["t"][-1] -= 600 * S
    return record.with_rows(rows)


def of_offset(offset: int) -> Callable[[Logged], Logged]:
    def change(record: Logged) -> Logged:
        rows = record.frame.rows.copy()
        rows["offset"][-1] = offset
        return record.with_rows(rows)

    return change


def rejects(change: Callable[[list[Reject]], list[Reject]]) -> Callable[[Logged], Logged]:
    return lambda record: record._replace(rejects=change([*record.rejects]))


def renamed(entry: T, **changes: object) -> T:
    return msgspec.structs.replace(entry, **changes)


LOG_LIES: dict[str, Lie] = {
    **{f"count {name} of record {at}, {by:+}": (
        in_log(at, lambda r, n=name, b=by: r.with_counts(**{n: b})), f"{LOG} {at + 1}")
        for name in COUNTS for at, by in ((0, 1), (1, 1), (1, -1))
        if by > 0 or name not in ("missing", "quarantined", "reported")},  # these are 0
    "counts late for read": (
        in_log(1, lambda r: r.with_counts(late=1, read=1)), f"{LOG} 2: it counts"),
    "counts late for rejected": (
        in_log(1, lambda r: r.with_counts(late=1, rejected=-1)), f"{LOG} 2: it counts"),
    "counts rows for late": (
        in_log(1, lambda r: r.with_counts(late=-1, rows=1)), f"{LOG} 2: it counts"),
    **{f"part {name} {by:+}": (
        in_log(1, lambda r, n=name, b=by: r.with_part(**{n: b})), f"{LOG} 2: ")
        for name in ("next_offset", "generation", "watermark") for by in (1, -1)
        if (name, by) != ("generation", -1)},
    **{f"header {name}": (
        in_log(1, lambda r, n=name: r.with_header(**{n: 1})), f"{LOG} 2: ")
        for name in ("kind", "watermark", "max_time", "ingest", "logged", "payload_crc")},
    **{f"header catalogue of record {at}": (
        in_log(at, lambda r: r.with_header(catalogue=1)), POSITIONS) for at in (0, 1)},
    "a row less": (in_log(0, without_row), f"{LOG} 1: it counts"),
    "a row less, counted": (lambda f: f.relog("radar", lambda log: [
        log[0], *(late_instead(record, log[1]) for record in log[1:])]), POSITIONS),
    "another row": (in_log(1, other_row), ROWS),
    "a late row": (in_log(0, late_row), f"{LOG} 1: it holds a row of partition 0 that is late"),
    "a row of an offset not read": (in_log(1, of_offset(10**6)), f"{LOG} 2: it holds offsets"),
    "a row of an offset twice": (
        in_log(1, lambda r: of_offset(int(r.frame.rows["offset"][-2]))(r)),
        f"{LOG} 2: its rows of partition 0 are not in offset order"),
    "a reject less": (in_log(0, rejects(lambda r: r[1:])), f"{LOG} 1: it counts"),
    "a reject for another": (
        in_log(0, rejects(lambda r: [r[1], *r[1:]])), f"{LOG} 1: an offset of partition 0"),
    "a reject of other bytes": (
        in_log(0, rejects(lambda r: [renamed(r[0], raw=b"other"), *r[1:]])), f"{LOG} 1: reject 0"),
    "a reject of another kind": (
        in_log(0, rejects(lambda r: [renamed(r[0], kind="Quarantined"), *r[1:]])),
        "partition 0 offset"),
    "the last record gone": (lambda f: f.relog("radar", lambda log: log[:-1]), POSITIONS),
    "a record of rows more": (
        lambda f: f.relog("radar", lambda log: [*log, after(log, log[1])]), "it counts 0 rows"),
    "an idle marker": (
        lambda f: f.relog("radar", lambda log: [*log, idle(log)]), "its partitions make it"),
}  # fmt: skip


def raised(field: str, by: int) -> Callable[[Files], None]:
    return lambda files: files.position("radar", lambda e: e.update({field: e[field] + by}))


def in_list(field: str, at: tuple[int, ...], by: int) -> Callable[[Files], None]:
    def change(entry: dict[str, object]) -> None:
        place = entry[field]
        for index in at[:-1]:
            place = place[index]  # type: ignore[index]
        place[at[-1]] += by  # type: ignore[index]

    return lambda files: files.position("radar", change)


def moved(change: Callable[[Contents], dict[str, object]]) -> Callable[[Files], None]:
    """A commit made from what the store holds."""
    return lambda files: files.commit(**change(files.contents()))


def meta(**by: int) -> Callable[[Files], None]:
    """Facts about the store raised by so much."""
    return moved(
        lambda store: {
            "meta": renamed(store.meta, **{k: getattr(store.meta, k) + by[k] for k in by})
        }
    )


def entry_gone(at: int) -> Callable[[Files], None]:
    """The outbox without one entry: deleted through it, and those before written again."""

    def forge(files: Files) -> None:
        held = files.contents().outbox
        gone = held[at].position
        files.commit(outbox_gone_through=gone)
        files.commit(outbox=[entry for entry in held if entry.position < gone])

    return forge


def later(entry: OutboxEntry) -> OutboxEntry:
    """``closed_through`` of a later time."""
    return OutboxEntry(entry.position, entry.kind, entry.count, entry.body.replace(b":1", b":2"))


def put_rows(
    key: tuple[str, int], change: Callable[[bytes], bytes] = lambda rows: rows
) -> Callable[[Files], None]:
    """The rows kept of the radar's record 2, put under a key."""

    def forge(files: Files) -> None:
        store = CorrelatorStore(files.state / "correlator", readonly=True)
        rows = dict(store.rows())[("radar", 2)]
        store.close()
        files.commit(rows=[(key, change(rows))])

    return forge


STORE_LIES: dict[str, Lie] = {
    **{f"positions: {name} {by:+}": (raised(name, by), POSITIONS)
       for name in (*CLASSES, "position", "log_id", "log_first", "watermark") for by in (1, -1)},
    **{f"positions: {COUNTS[at]}": (in_list("counts", (at,), 1), POSITIONS)
       for at in range(len(COUNTS))},
    **{f"positions: part {at}": (in_list("parts", (0, at), 1), POSITIONS) for at in range(4)},
    "positions: applied for unpaired": (
        lambda f: f.position("radar", lambda e: e.update(
            applied=0, unpaired=e["unpaired"] + e["applied"])), POSITIONS),
    "positions: quarantined for unpaired": (
        lambda f: f.position("radar", lambda e: e.update(
            quarantined=1, unpaired=e["unpaired"] - 1)), "radar: 1 rows were skipped"),
    "positions: ended": (lambda f: f.position("radar", lambda e: e.update(ended=True)), POSITIONS),
    "positions: back at the start": (
        lambda f: f.position("radar", lambda e: [e.pop(k) for k in [*e]]), ROWS),
    "positions: of nobody": (
        moved(lambda s: {"positions": {"nobody": s.positions["radar"]}}), "correlator positions"),
    **{f"meta: {name} {by:+}": (meta(**{name: by}), place) for name, by, place in (
        ("epoch", 1, META), ("outbox_end", 1, OUTBOX), ("outbox_end", -1, OUTBOX),
        ("outbox_deleted", 1, OUTBOX), ("outbox_deleted", -1, OUTBOX),
        ("closed_to", 5 * S, META), ("closed_to", -5 * S, META))},
    "outbox: first entry gone": (entry_gone(0), OUTBOX),
    "outbox: one in the middle gone": (entry_gone(3), OUTBOX),
    "outbox: last entry gone": (entry_gone(-1), OUTBOX),
    "outbox: another body": (
        moved(lambda s: {"outbox": [later(s.outbox[-1])]}), "alerts.sqlite: entry"),
    "alert state gone": (
        moved(lambda s: {"alerts_gone": [next(iter(s.alerts))]}), STATE),
    **{f"alert state: {name}": (
        lambda f, n=name, b=by: f.alert(lambda s: s.update({n: s[n] + b})), STATE)
       for name, by in (("sequence", 1), ("sequence", -1), ("low", 1), ("high", 1),
                        ("tca_ns", 60 * S), ("catalogue", 1))},
    "alert state: level": (
        lambda f: f.alert(lambda s: s.update(level="WATCH")), STATE),
    "alert state: not final": (lambda f: f.alert(lambda s: s.update(final=False)), STATE),
    "alert state: final": (
        lambda f: f.alert(lambda s: s.update(final=True), final=False), STATE),
    "alert state: record": (
        lambda f: f.alert(lambda s: s["record"].update(sequence=s["sequence"] + 1)), STATE),
    "alert state: a number of its record": (
        lambda f: f.alert(lambda s: s["record"].update(reason="another", miss_m=1.0)), STATE),
    "rows: other bytes": (put_rows(("radar", 2), lambda b: b[:40] + b"?" + b[41:]), ROWS),
    "rows: some doubled": (put_rows(("radar", 2), lambda b: b[:272] + b), ROWS),
    "rows: of a position not applied": (put_rows(("radar", 99)), ROWS),
    "rows: of another position": (put_rows(("radar", 1)), ROWS),
}  # fmt: skip


DLQ_LIES: dict[str, Lie] = {
    "an entry gone": (lambda f: f.relist(lambda e: e[1:]), "log position"),
    "an entry gone, and its count": (
        lambda f: (f.relist(lambda e: [x for x in e if x is not _first(e)]),
                   f.remark("radar", entries=-1)), f"{LOG} 1: reject 0 is not in the DLQ"),
    "an entry doubled": (lambda f: f.relist(lambda e: [*e, e[-1]]), "stands there more than once"),
    "an entry made up": (
        lambda f: (f.relist(lambda e: [*e, _made_up(_first(e))]), f.remark("radar", entries=1)),
        "stands there, and not in the log"),
    "an entry of nobody": (
        lambda f: f.relist(lambda e: [*e, renamed(e[0], operator="nobody")]), "no such source"),
    **{f"an entry's {name}": (
        lambda f, n=name, v=value: f.relist(lambda e: with_first(e, **{n: v})), place)
       for name, value, place in (
           ("error_message", "other", f"{LOG} 1: reject 0"), ("original_payload", b"x", LOG),
           ("error_kind", "SchemaMismatch", DLQ), ("offset", 10**6, DLQ), ("generation", 9, DLQ),
           ("partition", 5, DLQ), ("topic", "other", DLQ), ("dlq_id", "00" * 16, DLQ),
           ("root", "00" * 16, LOG), ("key", "7", LOG), ("sensor", "other", LOG),
           ("attempts", 1, LOG), ("retry_count", 1, LOG), ("message_timestamp_ms", 1, LOG),
           ("log_id", "00" * 8, MARK), ("log_position", 2, LOG), ("index", 999, LOG),
           ("catalogue", "00" * 8, LOG))},
    **{f"mark {name} {by:+}": (lambda f, n=name, b=by: f.remark("radar", **{n: b}), MARK)
       for name, by in (("position", 1), ("position", -1), ("index", 1), ("index", -1),
                        ("entries", 1), ("entries", -1), ("log_id", 1), ("expired", 1))},
    "mark incomplete": (lambda f: f.remark("radar", complete=False, index=-50), MARK),
    "marks of a shorter file": (lambda f: f.repos(lambda p: setattr(p, "length", 0)), MARK),
    "marks of a longer file": (
        lambda f: f.repos(lambda p: setattr(p, "length", p.length + 1)), "dlq: "),
    "marks of no file": (lambda f: f.repos(lambda p: setattr(p, "file", "")), "dlq"),
    "marks gone": (lambda f: (f.state / "dlq" / POS_NAME).unlink(), "dlq: high-water.pos"),
}  # fmt: skip


def _first(entries: list[Entry]) -> Entry:
    """The entry of the radar log's first reject."""
    return next(entry for entry in entries if entry.operator == "radar")


def with_first(entries: list[Entry], **changes: object) -> list[Entry]:
    first = _first(entries)
    return [renamed(entry, **changes) if entry is first else entry for entry in entries]


def _made_up(entry: Entry) -> Entry:
    name = dlq_id(entry.operator, entry.topic, 0, 0, 10**6, error_kind=entry.error_kind)
    return renamed(entry, offset=10**6, dlq_id=name, index=500)
