"""Audit of the alert sink's store: its records follow from its entries, its entries from the
correlator's outbox, and what the correlator holds of an alert is what was last said of it.

A second, simpler telling of SPEC 5; nothing of the operators' own rules is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import orjson

from sda_pipeline.limits import CLOSED_ALERT_KEPT_NS, SEEN_SET_KEPT_NS
from sda_pipeline.records.alert import (
    EPOCH_SHIFT,
    INSERT,
    KIND_RECORDS,
    NUMBER_MASK,
    RETRACT,
    AlertRecord,
    Entry,
    parse_entry,
)
from sda_pipeline.records.times import format_time, parse_times
from sda_pipeline.runtime.audit_ledger import LedgerAudit
from sda_pipeline.runtime.audit_report import Fault
from sda_pipeline.runtime.audit_store import HeldAlert
from sda_pipeline.state.alert_log import ENTRIES_KEPT, AlertView, Logged, raw_bodies
from sda_pipeline.state.alert_state import Change, epoch_of
from sda_pipeline.state.store import Contents


class Newest(NamedTuple):
    """The newest record of an alert."""

    sequence: int
    level: str | None  # None for a retract
    final: bool
    closes_ns: int
    body: bytes = b""


@dataclass
class SinkAudit:
    """The walk over entries and records, by position; the ledger's audit is told of each change."""

    view: AlertView
    ledger: LedgerAudit
    fault: Fault
    entries: dict[int, Entry] = field(default_factory=dict)
    newest: dict[str, Newest] = field(default_factory=dict)  # what readers know of each alert
    _provisional: dict[str, Newest] = field(default_factory=dict)
    _newest_closes: int = 0

    def check(self) -> None:
        """Everything the store says of itself, and the ledger with it."""
        view, fault = self.view, self.fault
        for difference in view.differences():
            fault(f"alerts.sqlite: {difference}")
        self.entries = {entry.position: entry for entry in view.entries()}
        last = max(self.entries, default=0)
        if last != view.position:
            fault(f"alerts.sqlite: it stands at {view.position:#x}, its last entry is {last:#x}")
        before = 0
        for position in self.entries:
            follows = position == before + 1 or position & NUMBER_MASK == 1
            if before and not follows:
                fault(f"alerts.sqlite: entry {position:#x} follows {before:#x}")
            before = position
        first = min(self.entries, default=0)
        pruned = first & NUMBER_MASK > 1
        if pruned and len(self.entries) < ENTRIES_KEPT:
            fault(f"alerts.sqlite: the entries before {first:#x} are missing")
        for alert_id in view.mislabelled():
            fault(f"alerts.sqlite: 'latest' of alert {alert_id} is not on its newest record alone")
        self._walk(first, pruned=pruned)
        self.ledger.finish(view.position, first, pruned=pruned)
        if self._newest_closes != view.newest_closes_ns:
            says = f"its newest alert closes at {self._newest_closes}"
            fault(f"alerts.sqlite: {says}, it stands at {view.newest_closes_ns}")

    def _walk(self, first: int, *, pruned: bool) -> None:
        """Entries and records side by side. Before ``first`` there are records only."""
        logged = groupby(self.view.records(), key=lambda record: record.position)
        waiting = [*self.entries]
        start = None
        for position, group in _both(waiting, logged):
            records = [*group]
            start = position if start is None else start
            if position == start:
                self.ledger.begin(start, pruned=pruned)
            entry = self.entries.get(position)
            if entry is None and position >= first:
                self.fault(f"alerts.sqlite: records of entry {position:#x}, which is not there")
            for record in records:
                if record[:-1] != _columns(record):
                    where = f"alerts.sqlite: record {record.sequence:#x} of {record.alert_id}"
                    self.fault(f"{where} does not say what its body says")
            if entry is None:
                self._take_records(position, records)
            else:
                self._take_entry(entry, records)
        if start is None:
            self.ledger.begin(1, pruned=False)

    def _take_records(self, position: int, records: list[Logged]) -> None:
        """Records whose entry is pruned: believed, as they are durable twice."""
        for _, group in groupby(records, key=lambda record: record.alert_id):
            last = [*group][-1]
            self._put(last)
            self.ledger.take(position, _change(last), last.body)

    def _take_entry(self, entry: Entry, records: list[Logged]) -> None:
        where = f"alerts.sqlite: entry {entry.position:#x}"
        content = parse_entry(entry.kind, entry.body)
        if isinstance(content, int):
            expected = self._withdrawals(entry.position, content)
            self.ledger.close(entry.position, content)
        else:
            expected = self._records_of(entry, content)
            if not _well_formed(content) or len(content) != entry.count:
                self.fault(f"{where} is neither one record nor a retract and its insert")
            elif content:
                last = _logged(entry, content, -1)
                self.ledger.take(entry.position, _change(last), last.body)
        if expected != records:
            told = f"{len(expected)} records follow from it"
            self.fault(f"{where}: {told}, {len(records)} stand there, and they are not the same")
        for record in records:
            self._put(record)

    def _records_of(self, entry: Entry, content: list[AlertRecord]) -> list[Logged]:
        """What an entry adds to the log: all of it, unless it is known or too old."""
        if not content:
            return []
        last = _logged(entry, content, -1)
        known = self.newest.get(last.alert_id)
        old = self._newest_closes - last.closes_ns > SEEN_SET_KEPT_NS
        if old or (known is not None and last.sequence <= known.sequence):
            return []
        return [_logged(entry, content, at) for at in range(len(content))]

    def _withdrawals(self, position: int, closed_ns: int) -> list[Logged]:
        """What ``closed_through`` adds: a retract for each alert that only an older epoch raised
        and nobody confirmed.
        """
        epoch = epoch_of(position)
        found = []
        for alert_id, known in sorted(self._provisional.items()):
            if known.closes_ns > closed_ns or epoch_of(known.sequence) >= epoch:
                continue
            old, sequence = orjson.loads(known.body), epoch << EPOCH_SHIFT
            body = orjson.dumps({
                "alert_id": alert_id, "sequence": sequence, "action": RETRACT, "final": True,
                "supersedes": known.sequence, "reason": "not_confirmed",
                "sat1": old["sat1"], "sat2": old["sat2"], "closes": old["closes"],
            })  # fmt: skip
            found.append(
                Logged(
                    alert_id, sequence, position, RETRACT, final=True, level=None,
                    closes_ns=known.closes_ns, body=body,
                )
            )  # fmt: skip
        return found

    def _put(self, record: Logged) -> None:
        new = Newest(record.sequence, record.level, record.final, record.closes_ns, record.body)
        self.newest[record.alert_id] = new._replace(body=b"")
        self._newest_closes = max(self._newest_closes, record.closes_ns)
        if record.level is not None and not record.final:
            self._provisional[record.alert_id] = new
        else:
            self._provisional.pop(record.alert_id, None)


def check_outbox(contents: Contents, sink: SinkAudit, fault: Fault) -> None:
    """The correlator's outbox against the sink, which was read after it."""
    meta, position = contents.meta, sink.view.position
    if meta.outbox_deleted & NUMBER_MASK and meta.outbox_deleted > position:
        fault(f"correlator outbox: deleted up to {meta.outbox_deleted:#x}, the sink holds "
              f"{position:#x}")  # fmt: skip
    if epoch_of(position) > meta.epoch:
        fault(f"alerts.sqlite: it stands at {position:#x}, the correlator is in epoch {meta.epoch}")
    for entry in contents.outbox:
        if sink.entries.get(entry.position, entry) != entry:
            fault(f"alerts.sqlite: entry {entry.position:#x} is not the correlator's")
    closed = {
        entry.position: parse_entry(entry.kind, entry.body)
        for entry in (*sink.entries.values(), *contents.outbox)
        if entry.kind != KIND_RECORDS and entry.position <= meta.outbox_end
        and epoch_of(entry.position) == meta.epoch
    }  # fmt: skip
    told = closed[max(closed)] if closed else 0
    begins = (meta.epoch << EPOCH_SHIFT) + 1
    if told != meta.closed_to and (closed or begins in sink.entries):
        fault(f"correlator meta: closed to {meta.closed_to}, it told {told}")


def check_states(
    contents: Contents, states: dict[str, HeldAlert], sink: SinkAudit, fault: Fault
) -> None:
    """What the correlator holds of each alert against the newest record of it."""
    meta = contents.meta
    said: dict[str, Logged] = {}
    for entry in sorted((*sink.entries.values(), *contents.outbox), key=lambda e: e.position):
        content = parse_entry(entry.kind, entry.body)
        if entry.position <= meta.outbox_end and isinstance(content, list) and content:
            said[content[-1].alert_id] = _logged(entry, content, -1)
    for alert_id, state in states.items():
        for found in _state_faults(alert_id, state, said.get(alert_id), meta.closed_to):
            fault(f"correlator state of alert {alert_id}: {found}")
    for alert_id, record in said.items():
        kept = not record.final or record.closes_ns + CLOSED_ALERT_KEPT_NS >= meta.closed_to
        if kept and epoch_of(record.sequence) == meta.epoch and alert_id not in states:
            fault(f"correlator state of alert {alert_id}: it is missing")


def _state_faults(
    alert_id: str, state: HeldAlert, said: Logged | None, closed_to: int
) -> Iterator[str]:
    record = state.record or {}
    if state.final != (state.closes_ns <= closed_to):
        says = f"it closes at {state.closes_ns}, all is closed to {closed_to}"
        yield f"final is {state.final}, {says}"
    own = {
        "alert_id": state.alert_id, "sequence": state.sequence, "final": state.final,
        "sat1": state.low, "sat2": state.high, "closes": format_time(state.closes_ns),
    }  # fmt: skip
    if alert_id != state.alert_id or any(record.get(key) != value for key, value in own.items()):
        yield "it is not what its record says"
    if state.level != record.get("level"):
        yield f"its level is {state.level}, its record's {record.get('level')}"
    if record.get("catalogue", f"{state.catalogue:016x}") != f"{state.catalogue:016x}":
        yield "its catalogue is not its record's"
    if said is not None and (said.sequence, orjson.loads(said.body)) != (state.sequence, record):
        yield f"its record is {state.sequence:#x}, the last one emitted is {said.sequence:#x}"


def _both(
    waiting: list[int], logged: Iterator[tuple[int, Iterator[Logged]]]
) -> Iterator[tuple[int, Iterator[Logged]]]:
    """Positions of entries and of records, merged; with the records of each."""
    nothing: Iterator[Logged] = iter(())
    at = 0
    for position, records in logged:
        while at < len(waiting) and waiting[at] < position:
            yield waiting[at], nothing
            at += 1
        at += at < len(waiting) and waiting[at] == position
        yield position, records
    yield from ((position, nothing) for position in waiting[at:])


def _well_formed(content: list[AlertRecord]) -> bool:
    """One record, or the retract of an alert followed by its insert."""
    if len(content) == 1:
        return (content[0].action == INSERT) == (content[0].level is not None)
    if len(content) != 2:
        return False
    old, new = content
    pair = (RETRACT, INSERT, old.alert_id, old.sequence + 1)
    return pair == (old.action, new.action, new.alert_id, new.sequence)


def _logged(entry: Entry, content: list[AlertRecord], at: int) -> Logged:
    """A record of an entry as the log must hold it; ``final`` and ``closes`` are the last one's."""
    body, last = raw_bodies(entry.body)[at], content[-1]
    own = content[at]
    return Logged(
        own.alert_id, own.sequence, entry.position, own.action, last.final, own.level,
        _closes(last.closes), body,
    )  # fmt: skip


def _columns(record: Logged) -> tuple[object, ...]:
    """What a record's columns must be for its body."""
    body = orjson.loads(record.body)
    return (
        body["alert_id"], body["sequence"], record.position, body["action"], body["final"],
        body.get("level"), _closes(body["closes"]),
    )  # fmt: skip


def _change(record: Logged) -> Change:
    ingest = orjson.loads(record.body).get("ingest_ns")
    return Change(
        record.alert_id, record.sequence, record.level, record.final, record.closes_ns, ingest
    )


@lru_cache(maxsize=4096)  # the records of an alert all say the same
def _closes(text: str) -> int:
    return int(parse_times([text])[0][0])
