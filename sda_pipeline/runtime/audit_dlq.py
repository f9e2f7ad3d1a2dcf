"""Audit of the DLQ: every reject of the logs stands in it once, unchanged, and nothing else does.
Also its high-water marks, and the quarantine that rejects speak of. Not the logs themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from sda_pipeline.dlq.entry import Entry, dlq_id, entry_of
from sda_pipeline.dlq.marks import NO_INDEX, NOTHING, Mark
from sda_pipeline.dlq.quarantine_count import NAME as COUNT_NAME
from sda_pipeline.dlq.quarantine_count import read_count
from sda_pipeline.dlq.quarantine_file import NAME as QUARANTINE
from sda_pipeline.dlq.quarantine_file import counted, read_quarantine
from sda_pipeline.dlq.reading import POS_NAME, derive, read_entries
from sda_pipeline.records.frames import Counts, Header
from sda_pipeline.records.rejects import KIND_REJECTS, Reach, Reject, RejectHead
from sda_pipeline.runtime.audit_log import START, Walked
from sda_pipeline.runtime.audit_report import AuditReport
from sda_pipeline.topology import Topology
from sda_pipeline.vocabulary import ErrorKind

Beginning = tuple[str, int]  # a log's id, hexadecimal, and the first position it holds


class _Line(NamedTuple):
    """What is remembered of an entry: a digest of what it says, and where its reject was logged."""

    source: str
    digest: int
    log_id: str
    position: int
    index: int  # type: ignore[assignment]  # shadows tuple.index: the format's own name
    catalogue: str  # "" in entries written as version 1


class DlqAudit:
    """The files as they were when this was made: before the logs are walked."""

    def __init__(
        self, topology: Topology, beginnings: Mapping[str, Beginning], report: AuditReport
    ) -> None:
        self._directory, self._report = topology.state / "dlq", report
        self._topics = {spec.name: spec.topic or "" for spec in topology.operators}
        self._beginnings = beginnings
        self._lines: dict[str, _Line] = {}  # by dlq_id, unless its part of the log is gone
        self._count: Counter[str] = Counter()  # lines by source
        self._matched: set[str] = set()
        self.waiting = 0  # rejects of the logs that are on their way here
        self._told: dict[str, list[Reject]] = {source: [] for source in topology.sources}
        self._before: dict[str, Mark] = {}
        self._after: dict[str, Mark] = {}
        if self._directory.exists():
            with report.reading():
                marks = derive(self._directory)
                self._before = marks.marks
                self._read(marks.oldest)
                marks = derive(self._directory)
                self._after = marks.marks
                for found in marks.faults:
                    report.fault(f"dlq: {found}")
                if self._count and not (self._directory / POS_NAME).exists():
                    report.fault(f"dlq: {POS_NAME} is missing")

    def _read(self, oldest: str) -> None:
        fault, known = self._report.fault, set[int]()
        for entry in read_entries(
            self._directory, lambda s: fault(f"dlq: {s.file} line {s.line}: {s.why}"), oldest=oldest
        ):
            where = f"dlq: {entry.operator} partition {entry.partition} offset {entry.offset}"
            if entry.operator not in self._told:
                fault(f"{where}: there is no such source")
            if entry.dlq_id != _id_of(entry):
                fault(f"{where}: its dlq_id is not that of its coordinates")
            name = hash(entry.dlq_id)
            if name in known:
                fault(f"{where} stands there more than once")
            known.add(name)
            self._count[entry.operator] += 1
            log_id, first = self._beginnings.get(entry.operator, ("", 0))
            if entry.log_id != log_id or entry.log_position >= first:
                place = entry.log_id, entry.log_position, entry.index, entry.catalogue
                self._lines[entry.dlq_id] = _Line(entry.operator, _digest(entry), *place)

    def mark(self, source: str) -> Mark:
        """The high-water mark of a source when the reading began."""
        return self._before.get(source, NOTHING)

    def done(self, source: str, log_id: int) -> int:
        """Up to which position of a log every reject must be here."""
        mark = self.mark(source)
        return mark.done if mark.log_id == log_id else 0

    def rejects(self, source: str, header: Header, rejects: list[Reject]) -> None:
        """The rejects of one log record."""
        head = RejectHead(
            0, KIND_REJECTS, 0, header.log_id, header.position, 0, 1, 0, catalogue=header.catalogue
        )
        done = self.done(source, header.log_id)
        for index, reject in enumerate(rejects):
            entry = entry_of(reject, head, index, source, self._topics[source])
            where = f"{source} log position {header.position}: reject {index}"
            if reject.kind == ErrorKind.QUARANTINED:
                self._told[source].append(reject)
            line = self._lines.get(entry.dlq_id)
            if line is None:
                self.waiting += header.position > done
                if header.position <= done:
                    self._report.fault(f"{where} is not in the DLQ")
                continue
            self._matched.add(entry.dlq_id)
            # A log made anew logs again what stands there under the old log's coordinates.
            own = line.log_id == entry.log_id
            moved = own and (line.position, line.index) != (header.position, index)
            judged = own and line.catalogue not in {"", entry.catalogue}
            if moved or judged or line.digest != _digest(entry):
                self._report.fault(f"{where} stands in the DLQ with other contents")

    def check_source(
        self, source: str, walked: Walked, witnessed: tuple[int, int], *, unbroken: bool
    ) -> None:
        """After the walk of its log. ``unbroken``: its counts begin with those of this log;
        ``witnessed``: of which log, up to where, the correlator was told that the DLQ has all.
        """
        mark, (log_id, done) = self.mark(source), witnessed
        if done > mark.done and mark.log_id in {0, log_id}:
            says = f"it stands at {mark.done}, and the correlator was told {done}"
            self._report.fault(f"dlq high-water mark of {source}: {says}")
        lines = {name: line for name, line in self._lines.items() if line.source == source}
        own = f"{walked.log_id:016x}"
        for name, line in lines.items():
            held = line.log_id != own or line.position < walked.first or name in self._matched
            if not held:
                at = f"dlq: {source} log position {line.position}, reject {line.index}"
                self._report.fault(f"{at} stands there, and not in the log")
        found_here = self._mark_faults(source, walked, [*lines.values()], unbroken=unbroken)
        for found in (*found_here, *self._lacking(source, walked)):
            self._report.fault(f"dlq high-water mark of {source}: {found}")
        if mark.in_doubt:
            self._note_doubt(source, walked)

    def _note_doubt(self, source: str, walked: Walked) -> None:
        """Offsets of before a log made anew could not be read again: their rejects may be lacking,
        and only as many as its counts are above what was written are known to be.
        """
        mark = self.mark(source)
        standing = walked.at.get(mark.done) if mark.log_id == walked.log_id else None
        note = (
            f"{source}: at least {mark.in_doubt} offsets that went with a log could not be read "
            "again; their rejects may not be in the DLQ"
        )
        if standing is not None:
            sent = refused_of(standing.counts) + (0 if mark.complete else mark.index + 1)
            note += f": of {sent} at least {max(0, sent - mark.entries)} are only counted"
        self._report.notes.append(note)

    def _mark_faults(
        self, source: str, walked: Walked, lines: list[_Line], *, unbroken: bool
    ) -> Iterator[str]:
        mark, later = self.mark(source), self._after.get(source, NOTHING)
        log_id = f"{walked.log_id:016x}"
        held, own = self._count[source], [line for line in lines if line.log_id == log_id]
        if not mark.entries - later.expired <= held <= later.entries - mark.expired:
            says = f"it counts {mark.entries} entries, {mark.expired} of them expired"
            yield f"{says}; the files hold {held}"
        reach = max(_reach(later), (later.again, float("inf")))  # below ``again`` they may be known
        beyond = [line for line in own if (line.position, line.index) > reach]
        if beyond and (later.log_id == walked.log_id or not later.log_id):
            at = f"{beyond[0].position}/{beyond[0].index}"
            yield f"it stands at {later.position}/{later.index}, and an entry of {at} is there"
        if later.log_id != walked.log_id:
            if own:
                yield f"it is of log {later.log_id:016x}, and entries of {log_id} are there"
            return
        if len(own) < len(lines) and not later.replaced:
            yield "it knows of no other log, and entries of another log are there"
        if mark.log_id != walked.log_id:
            return
        yield from _knowledge_faults(mark, walked)
        if max(mark.position, mark.again) > walked.end:
            says = f"it stands at {mark.position}, is to see again what is up to {mark.again}"
            yield f"{says}; the log ends at {walked.end}"
        standing = walked.at.get(mark.position)
        if standing is not None and mark.position >= mark.again:
            last = standing.rejects - 1
            if not (mark.index == last if mark.complete else NO_INDEX < mark.index <= last):
                says = f"{mark.index}, complete: {mark.complete}, of position {mark.position}"
                yield f"it stands at {says}, which holds {standing.rejects} rejects"
        standing = walked.at.get(mark.done) if mark.done else START
        known = unbroken and not mark.replaced and mark.position >= mark.again
        if known and standing is not None:
            refused = refused_of(standing.counts) + (0 if mark.complete else mark.index + 1)
            if refused != mark.entries:
                yield f"it counts {mark.entries} entries, the log {refused} refused up to there"

    def _lacking(self, source: str, walked: Walked) -> Iterator[str]:
        """Also of what was refused before this log: its counts go on from those of the one before.
        More may be there: a log that was lost may have been ahead, or counts begun anew.
        """
        mark, later = self.mark(source), self._after.get(source, NOTHING)
        standing = walked.at.get(mark.done)
        if mark.log_id != walked.log_id or standing is None or mark.in_doubt:
            return
        lacking = refused_of(standing.counts) - self._count[source] - later.expired
        if lacking > 0:
            yield f"the files lack {lacking} of the rejects that the log counts up to {mark.done}"

    def check_quarantine(
        self, state: Path, reported: Mapping[str, int], skipped: Mapping[str, int], *, sealed: bool
    ) -> None:
        """Rows skipped or reported as quarantined, and rejects that say so, are in the file, which
        is read last: it is written first. ``sealed``: this release has written the state.
        """
        path = state / QUARANTINE
        with self._report.reading():
            lines, found = read_quarantine(path), counted(path)
            count = read_count(state / COUNT_NAME)
            if count is not None and (why := count.fault(found.lines, found.total)):
                self._report.fault(f"{path.name}: {why}")
            if count is None and lines and sealed:
                self._report.fault(f"{path.name}: {COUNT_NAME} beside it is missing")
            named = Counter(line.source for line in lines if line.report)
            known = {(line.source, line.coordinates) for line in lines}
            for source, told in reported.items():
                if max(told, skipped[source]) > named[source]:
                    self._report.fault(
                        f"{source}: {skipped[source]} rows were skipped as quarantined and {told} "
                        f"reported, but {path.name} names {named[source]}"
                    )
            for source, rejects in self._told.items():
                for reject in rejects:
                    at = (reject.generation, reject.partition, reject.offset)
                    if (source, at) not in known:
                        self._report.fault(
                            f"{source}: partition {reject.partition} offset {reject.offset} was "
                            f"quarantined, but {path.name} does not name it"
                        )


def _knowledge_faults(mark: Mark, walked: Walked) -> Iterator[str]:
    """What a mark of this log knows beside its place: that of the record it stands at, or less."""
    if mark.in_doubt < 0 or (mark.in_doubt and walked.first == 1 and not mark.replaced):
        yield f"it counts {mark.in_doubt} offsets in doubt, and its log is the first there was"
    standing = walked.at.get(mark.done)
    if standing is None or standing.header is None or mark.position < mark.again:
        return
    at, parts = f"at {mark.done}", standing.parts
    logged = tuple(Reach(p.partition, p.generation, p.next_offset) for p in parts.values())
    if mark.complete:
        if mark.reaches and mark.reaches != logged:  # else not known
            yield f"it reaches {[*map(tuple, mark.reaches)]}, the log {[*map(tuple, logged)]} {at}"
        if mark.catalogue not in {0, standing.header.catalogue}:
            own, other = f"{mark.catalogue:016x}", f"{standing.header.catalogue:016x}"
            yield f"it says that catalogue {own} judged what is {at}, the log {other}"
        return
    for reach in mark.reaches:  # of an earlier record
        part = parts.get(reach.partition)
        same = part is not None and part.generation == reach.generation
        if part is None or (same and reach.next_offset > part.next_offset):
            yield f"it reaches {tuple(reach)}, which is beyond the log's record {at}"


def refused_of(counts: Counts) -> int:
    """Records that must stand in the DLQ."""
    return counts.rejected + counts.quarantined + counts.reported


def _reach(mark: Mark) -> tuple[int, float]:
    """How far a mark reaches, to be compared with (position, index)."""
    return mark.position, float("inf") if mark.complete else mark.index


def _id_of(entry: Entry) -> str:
    return dlq_id(
        entry.operator, entry.topic, entry.generation, entry.partition, entry.offset,
        error_kind=entry.error_kind,
    )  # fmt: skip


def _digest(entry: Entry) -> int:
    """Of all that the log says of it; when it was sent is not in the log."""
    return hash((
        entry.operator, entry.error_kind, entry.error_message, entry.retry_count,
        entry.original_payload, entry.dlq_id, entry.root, entry.topic, entry.generation,
        entry.partition, entry.offset, entry.message_timestamp_ms, entry.key, entry.sensor,
        entry.attempts,
    ))  # fmt: skip
