"""Read what a verdict rests on: the DLQ's entries, what their records say, the sources' logs, the
ledger. Decides nothing: verdicts are ``sda_pipeline/dlq/redrive.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from sda_pipeline.cli.reprocess.broker_front import Front, look_ahead
from sda_pipeline.cli.reprocess.key_partition import leads_to
from sda_pipeline.cli.reprocess.pipeline_place import Judges, Place
from sda_pipeline.clock import Clock
from sda_pipeline.dlq.entry import Entry
from sda_pipeline.dlq.filters import Filters
from sda_pipeline.dlq.reading import Skipped, derive, read_entries
from sda_pipeline.dlq.redrive import (
    Facts,
    Lives,
    Outcome,
    Sending,
    decide,
    is_key,
    name_of,
    plan,
)
from sda_pipeline.errors import Unreachable
from sda_pipeline.limits import SECOND_NS, TIME_END_NS
from sda_pipeline.log.log_search import Key, Lateness, Wanted, find, last_frame
from sda_pipeline.log.log_view import read_log
from sda_pipeline.records.frames import Part
from sda_pipeline.records.wire import decode_batch
from sda_pipeline.settings import KIND_CODES

READ_ATTEMPTS = 3  # a running source may delete a segment under the search, rarely twice in a row


@dataclass
class Dlq:
    """The DLQ's files as they are now."""

    entries: list[Entry] = field(default_factory=list)  # those the filters let through
    total: int = 0
    by_operator: Counter[str] = field(default_factory=Counter)
    lives: Lives = field(default_factory=Lives)
    unreadable: list[Skipped] = field(default_factory=list)


class Record(NamedTuple):
    """What a payload says of itself: its key in the logs and its time (ns), or why it says
    nothing.
    """

    key: Key | None
    event_ns: int | None
    unreadable: str = ""


class Standing(NamedTuple):
    """How far a source has come: W_p by partition and the lowest of them, and whether it ended."""

    watermarks: dict[int, int]
    lowest: int
    ended: bool
    parts: tuple[Part, ...] = ()


class Gathered(NamedTuple):
    """The verdicts in the order of sending, and what comes before them, by source."""

    outcomes: list[Outcome]
    fronts: dict[str, Front]


def read_dlq(place: Place, filters: Filters) -> Dlq:
    """Every entry once: those that match are kept, of the others only their lives."""
    found = Dlq()
    if not place.dlq.exists():
        return found
    oldest = derive(place.dlq).oldest
    for entry in read_entries(place.dlq, found.unreadable.append, oldest=oldest):
        found.total += 1
        found.by_operator[entry.operator] += 1
        found.lives.note(entry)
        if filters.match(entry):
            found.entries.append(entry)
    return found


def outcomes(
    place: Place,
    dlq: Dlq,
    sendings: Iterable[Sending],
    judges: Judges,
    target: str | None,
    *,
    clock: Clock, force: bool,
) -> Gathered:  # fmt: skip
    """What would become of each entry, in the order of sending."""
    topics = [_topic(place, entry, target) for entry in dlq.entries]
    readers = {topic: place.reader_of(topic) for topic in set(topics)}
    records = _read_records(place, dlq.entries, [readers[topic] for topic in topics])
    standing: dict[str, Standing] = {}
    held: dict[str, set[Key]] = {}
    for reader in {reader for reader in readers.values() if reader}:
        mine = [
            record
            for record, topic in zip(records, topics, strict=True)
            if readers[topic] == reader and record.key is not None
        ]
        standing[reader], held[reader] = _look_into_log(place, reader, mine)
    fronts = look_ahead(place, {name: stands.parts for name, stands in standing.items()}, clock)
    newest = {(sending.dlq_id, sending.topic): sending for sending in sendings}
    allowed_ns = round(place.topology.event_time.allowed_lateness_s * SECOND_NS)
    in_use = "" if judges.in_use is None else f"{judges.in_use:016x}"
    decided = []
    for entry, topic, record in zip(dlq.entries, topics, records, strict=True):
        reader = readers[topic]
        stands = standing.get(reader)
        to = _partition(place, entry, fronts.get(reader, Front()))
        at = entry.partition if to is None else to
        mark = stands.watermarks.get(at, stands.lowest) if stands else 0
        facts = Facts(
            topic, reader, target is not None,
            stands is not None and stands.ended,
            record.event_ns, record.unreadable,
            record.key in held.get(reader, ()),
            mark - allowed_ns, to,
            newest.get((name_of(entry), topic)),
            dlq.lives.newer(entry),
            bool(in_use) and entry.catalogue == in_use,
        )  # fmt: skip
        decided.append(decide(entry, facts, force=force))
    return Gathered(plan(decided), fronts)


def read_record(place: Place, entry: Entry) -> Record:
    """One payload, as the source that refused it reads it."""
    return _read_records(place, [entry], [entry.operator])[0]


def _topic(place: Place, entry: Entry, target: str | None) -> str:
    """Where an entry goes: to the topic it came from, if somebody still reads that."""
    if target is not None:
        return target
    read = entry.topic and place.reader_of(entry.topic)
    return entry.topic if read else place.topic_of(entry.operator) or entry.topic


def _partition(place: Place, entry: Entry, front: Front) -> int | None:
    """Where its key leads, as far as the broker says how many partitions there are."""
    if not front.partitions or not is_key(entry.key):
        return None
    return leads_to(place.topology.broker, entry.key_bytes, front.partitions)


def _read_records(place: Place, entries: Sequence[Entry], readers: Sequence[str]) -> list[Record]:
    """What each payload says, read as observations of its reader's kind, else its operator's."""
    found = [Record(None, None)] * len(entries)
    of_kind: dict[int, list[int]] = {}
    for at, (entry, reader) in enumerate(zip(entries, readers, strict=True)):
        source = reader or entry.operator
        if source in place.topology.sources:
            name = place.topology.kind_of(source).removesuffix("-source")
            of_kind.setdefault(KIND_CODES[name], []).append(at)
    for kind, places in of_kind.items():
        decoded = decode_batch(kind, [entries[at].original_payload for at in places])
        index = [places[k] for k in decoded.index.tolist()]
        keys = Wanted(decoded.sat, decoded.t, decoded.ids).names()
        for at, key, t in zip(index, keys, decoded.t.tolist(), strict=True):
            found[at] = Record(key, t)
        for rejected in decoded.rejects:
            found[places[rejected.index]] = Record(None, None, rejected.message)
        for discarded in decoded.discards:
            found[places[discarded.index]] = Record(None, None, f"it is {discarded.reason}")
    return found


def _look_into_log(
    place: Place, source: str, records: Sequence[Record]
) -> tuple[Standing, set[Key]]:
    """Where a source stands, and which of these observations its log holds."""
    settings = place.topology.event_time
    kind = place.topology.kind_of(source).removesuffix("-source")
    lateness = Lateness(
        round(settings.max_lateness_s[kind] * SECOND_NS),
        round(settings.allowed_lateness_s * SECOND_NS),
    )
    wanted = _wanted(records)
    for attempt in range(1, READ_ATTEMPTS + 1):
        try:
            view = read_log(place.log(source))
            held = find(view, wanted, lateness)
            last = last_frame(view)
            break
        except Unreachable:
            if attempt == READ_ATTEMPTS:
                raise
    if last is None:
        return Standing({}, 0, ended=False), held
    marks = {part.partition: part.watermark for part in last.parts}
    ended = last.header.watermark == TIME_END_NS
    return Standing(marks, min(marks.values(), default=0), ended, last.parts), held


def _wanted(records: Sequence[Record]) -> Wanted:
    keys = [record.key for record in records if record.key is not None]
    times = [record.event_ns for record in records if record.event_ns is not None]
    halves = np.array([key[2:] for key in keys], np.uint64).reshape(-1, 2)
    return Wanted(np.array([key[0] for key in keys], np.int64), np.array(times, np.int64), halves)
