"""Audit of one source log: every record must follow from the one before it. Not what became of its
rows and rejects elsewhere.

From record to record the counts must grow by what the record holds, the partitions' offsets by what
was read, their watermarks by the rows that were accepted (DESIGN 8).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from sda_pipeline.limits import TIME_END_NS
from sda_pipeline.log.source_log import LogView
from sda_pipeline.records.frames import (
    KIND_END,
    KIND_IDLE,
    KIND_ROWS,
    Counts,
    Frame,
    Header,
    Part,
    parse_payload,
)
from sda_pipeline.records.generations import follows
from sda_pipeline.records.rejects import Reject, unpack_rejects
from sda_pipeline.runtime.audit_report import Fault
from sda_pipeline.vocabulary import ErrorKind

COUNT_NAMES = tuple(Counts.__dataclass_fields__)


class Rules(NamedTuple):
    """What the records of one source must obey."""

    name: str
    number: int  # the source's place in the topology
    kind: int  # of its rows
    max_lateness_ns: int
    allowed_ns: int
    gapless: bool  # offsets of a partition follow each other without gaps


class Standing(NamedTuple):
    """Where a source stood after one record."""

    header: Header | None
    parts: dict[int, Part]
    counts: Counts
    rejects: int  # that this record holds

    @property
    def ended(self) -> bool:
        return self.header is not None and self.header.watermark == TIME_END_NS


START = Standing(None, {}, Counts(), 0)


@dataclass
class Walked:
    """A log that was walked. ``at`` holds the standings at the positions asked for."""

    log_id: int
    first: int
    end: int
    whole: bool  # nothing was ever deleted from its front
    last: Standing | None = None  # None when it holds no record
    at: dict[int, Standing] = field(default_factory=dict)
    catalogues: dict[int, int] = field(default_factory=dict)  # to the first position of each


def walk(
    log: LogView,
    rules: Rules,
    wanted: set[int],
    on_rejects: Callable[[Header, list[Reject]], None],
    fault: Fault,
) -> Walked:
    """Check every retained record. A log cut off at the front is taken as it begins.

    StateCorrupt on damage; Unreachable when a segment was deleted meanwhile: walk it anew.
    """
    walked = Walked(log.log_id, log.first, log.end, log.whole)
    before = START if log.first == 1 else None
    for record in log.records(log.first):
        header, rejects = record.header, unpack_rejects(record.rejects)
        frame = parse_payload(header, record.payload)
        parts = {part.partition: part for part in frame.parts}
        here = Standing(header, parts, frame.counts, len(rejects))
        where = f"{rules.name} log position {header.position}"
        for found in (
            *_faults(before, here, frame, rejects, rules),
            *_first_faults(before, header, walked),
        ):
            fault(f"{where}: {found}")
        if header.payload_crc != zlib.crc32(record.payload):
            fault(f"{where}: its header does not have the CRC of its payload")
        if rejects:
            on_rejects(header, rejects)
        if header.position in wanted:
            walked.at[header.position] = here
        walked.catalogues.setdefault(header.catalogue, header.position)
        walked.last = before = here
    return walked


def _faults(
    before: Standing | None, here: Standing, frame: Frame, rejects: list[Reject], rules: Rules
) -> Iterator[str]:
    header = frame.header
    if frame.counts.residue():
        yield f"its classes miss {frame.counts.residue()} of what it says was read"
    if header.rows != header.logged:
        yield f"it holds {header.rows} rows and says that {header.logged} were logged"
    if header.source != rules.number:
        yield f"it says that it is of source {header.source}, not {rules.number}"
    if header.kind not in (KIND_ROWS, KIND_IDLE, KIND_END):
        yield f"its kind {header.kind} is not known"
    elif header.kind != KIND_ROWS and (header.rows or rejects):
        yield "it is a marker, and holds rows or rejects"
    yield from _row_faults(before, here, frame, rejects, rules)
    yield from _watermark_faults(before, here, frame, rules)
    if before is not None:
        yield from _growth_faults(before, here, rejects, rules)


def _first_faults(before: Standing | None, header: Header, walked: Walked) -> Iterator[str]:
    """All records of a log say alike where it began, and its segments no other. An older release
    says nothing, so neither does a record behind one of it.
    """
    told = header.log_first
    if not told:
        return
    says = f"it says that its log began at {told}"
    known = before.header.log_first if before is not None and before.header is not None else told
    if told != known:
        yield f"{says}, the record before it {known or 'nothing'}"
    if not (told == walked.first if walked.whole else 0 < told < walked.first):
        yield f"{says}; it {'begins' if walked.whole else 'was cut off'} at {walked.first}"


def _growth_faults(
    before: Standing, here: Standing, rejects: list[Reject], rules: Rules
) -> Iterator[str]:
    """Cumulative counts against what this record holds."""
    assert here.header is not None
    pairs = zip(before.counts.as_tuple(), here.counts.as_tuple(), strict=True)
    grown = Counts(*(now - then for then, now in pairs))
    for name, growth in zip(COUNT_NAMES, grown.as_tuple(), strict=True):
        if growth < 0:
            yield f"its count '{name}' goes back by {-growth}"
    if grown.rows != here.header.logged:
        yield f"it counts {grown.rows} rows, and holds {here.header.logged}"
    quarantined = sum(reject.kind == ErrorKind.QUARANTINED for reject in rejects)
    refused = len(rejects) - quarantined
    if grown.rejected != refused:
        yield f"it counts {grown.rejected} rejected, and holds {refused}"
    if grown.quarantined + grown.reported != quarantined:
        told = f"{grown.quarantined} quarantined and {grown.reported} reported"
        yield f"it counts {told}, and holds {quarantined}"
    for partition, part in before.parts.items():
        if partition not in here.parts:
            yield f"partition {partition} is not in it any more"
        elif not follows(here.parts[partition].generation, part.generation):
            yield f"the generation of partition {partition} does not follow the one before it"
    read = [_read(before, part) for part in here.parts.values()]
    known = sum(count for count in read if count is not None)
    exact = rules.gapless and before is not START  # it may have begun anywhere
    # What was unread when a partition began anew is missing, and no offset moves by it.
    unread = grown.missing if _begun_anew(before, here) else 0
    if None not in read and (grown.read > known + unread or (exact and grown.read < known)):
        yield f"it counts {grown.read} read, and its offsets moved by {known}"


def _begin(before: Standing, part: Part) -> int | None:
    """The first offset a record may hold of a partition; None for a partition that is new."""
    known = before.parts.get(part.partition)
    if known is None:
        return 0 if before is START else None
    return known.next_offset if part.generation == known.generation else 0


def _begun_anew(before: Standing, here: Standing) -> bool:
    return any(
        number in here.parts and here.parts[number].generation != part.generation
        for number, part in before.parts.items()
    )


def _read(before: Standing, part: Part) -> int | None:
    begin = _begin(before, part)
    return None if begin is None else part.next_offset - begin


def _row_faults(
    before: Standing | None, here: Standing, frame: Frame, rejects: list[Reject], rules: Rules
) -> Iterator[str]:
    """Rows and rejects: theirs, in offset order, each offset once, between the offsets read."""
    rows, header = frame.rows, frame.header
    newest = int(rows["t"].max()) if len(rows) else 0
    if header.max_time != newest:
        yield f"its newest row is of {newest}, its header says {header.max_time}"
    if (rows["kind"] != rules.kind).any() or (rows["ingest"] != header.ingest).any():
        yield "it holds rows of another kind or ingest time"
    strange = {*rows["partition"].tolist()} - here.parts.keys()
    if strange:
        yield f"it holds rows of partitions {sorted(strange)}, and says nothing of these"
    own = [r for r in rejects if r.kind != ErrorKind.QUARANTINED]  # these may be of long ago
    for partition, part in here.parts.items():
        offsets = rows["offset"][rows["partition"] == partition]
        refused = [reject.offset for reject in own if reject.partition == partition]
        if (np.diff(offsets) <= 0).any():
            yield f"its rows of partition {partition} are not in offset order"
        if len({*refused}) < len(refused) or np.isin(offsets, refused).any():
            yield f"an offset of partition {partition} stands in it twice"
        begin = 0 if before is None else _begin(before, part) or 0
        held = [*offsets[[0, -1]].tolist(), *refused] if len(offsets) else refused
        if held and not begin <= min(held) <= max(held) < part.next_offset:
            yield (
                f"it holds offsets {min(held)} to {max(held)} of partition {partition}, "
                f"and read {begin} to {part.next_offset - 1}"
            )


def _watermark_faults(
    before: Standing | None, here: Standing, frame: Frame, rules: Rules
) -> Iterator[str]:
    """Each partition's watermark follows from its rows; no accepted row may be late."""
    header, rows = frame.header, frame.rows
    if before is not None:
        new = min((part.watermark for part in before.parts.values()), default=0)
        for partition, part in here.parts.items():
            known = before.parts.get(partition)
            was = new if known is None else known.watermark
            times = rows["t"][rows["partition"] == partition]
            reached = np.maximum.accumulate(times) - rules.max_lateness_ns
            marks = np.maximum(np.concatenate(([was], reached)), was)
            if (times < marks[:-1] - rules.allowed_ns).any():
                yield f"it holds a row of partition {partition} that is late"
            expected = int(marks[-1])
            moved = header.kind == KIND_IDLE and part.watermark > expected
            if part.watermark != expected and not moved:
                at = f"the watermark of partition {partition} is {part.watermark}"
                yield f"{at}, its rows make it {expected}"
    ended = header.kind == KIND_END or (before is not None and before.ended)
    lowest = min((part.watermark for part in here.parts.values()), default=0)
    if before is None and here.ended:
        return  # its END may lie before what is retained
    if header.watermark != (TIME_END_NS if ended else lowest):
        yield f"its watermark is {header.watermark}, its partitions make it {lowest}"
