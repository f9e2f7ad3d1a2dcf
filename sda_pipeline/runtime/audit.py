"""Prove that every record read ended in exactly one class, from the files alone (DESIGN 3, P5).
Read-only.

Works on a running and on a stopped pipeline: positions are read before the logs, so what was
logged in
between counts as in flight, never as lost.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from sda_pipeline.dlq.entry import dlq_id
from sda_pipeline.dlq.files import read_entries
from sda_pipeline.dlq.quarantine_file import NAME as QUARANTINE
from sda_pipeline.dlq.quarantine_file import read_quarantine
from sda_pipeline.errors import SdaError
from sda_pipeline.log.source_log import LogView, read_log
from sda_pipeline.records.frames import Counts, parse_payload
from sda_pipeline.records.rejects import Reject, unpack_rejects
from sda_pipeline.state.store import CorrelatorStore
from sda_pipeline.topology import Topology


class AppliedPosition(msgspec.Struct):
    """The part of the correlator's ``positions`` entry that the audit needs."""

    log_id: int
    position: int
    counts: tuple[int, ...]
    applied: int
    unpaired: int
    duplicate: int
    shed: int
    quarantined: int
    superseded: int
    missing: int = 0

    def classes(self) -> int:
        """Rows up to ``position`` by what the correlator made of them, summed."""
        return (self.applied + self.unpaired + self.duplicate + self.shed + self.quarantined) + (
            self.superseded + self.missing
        )


@dataclass
class SourceAudit:
    """One source's sum: everything but ``read``, ``in_flight`` and ``residue`` is a final class."""

    source: str
    read: int = 0
    applied: int = 0
    unpaired: int = 0
    duplicate: int = 0
    late: int = 0
    shed: int = 0
    rejected: int = 0
    discarded: int = 0
    quarantined: int = 0
    superseded: int = 0
    missing: int = 0
    in_flight: int = 0  # logged, not yet applied

    @property
    def residue(self) -> int:
        """0 when nothing is lost and nothing is counted twice."""
        classes = asdict(self)
        del classes["source"]
        read = int(classes.pop("read"))
        return read - sum(int(count) for count in classes.values())


@dataclass
class AuditReport:
    """The sums and every contradiction found, each saying where."""

    sources: list[SourceAudit] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def audit(topology: Topology, board: dict[str, int] | None = None) -> AuditReport:
    """Audit the state directory; ``board`` (of a running pipeline) is compared where given."""
    report = AuditReport()
    positions = _positions(topology.state / "correlator", report)
    reported: dict[str, int] = {}
    in_dlq = _dlq_entries(topology.state / "dlq", report)
    topics = {spec.name: spec.topic or "" for spec in topology.operators}
    for name in topology.sources:
        position = positions.get(name)
        try:
            log = read_log(topology.state / "log" / name)
            counts = _audit_log(name, topics[name], log, position, in_dlq, board, report)
        except SdaError as error:
            report.faults.append(str(error))
            counts = Counts(*position.counts) if position else Counts()
        source = _sum(name, counts, position)
        report.sources.append(source)
        reported[name] = counts.reported
        if source.residue:
            report.faults.append(f"{name}: read exceeds the sum of its classes by {source.residue}")
    _check_quarantine(topology.state / QUARANTINE, positions, reported, report)
    return report


def _positions(path: Path, report: AuditReport) -> dict[str, AppliedPosition]:
    if not path.exists():
        return {}
    try:
        store = CorrelatorStore(path, readonly=True)
        try:
            return {
                source: msgspec.msgpack.decode(data, type=AppliedPosition)
                for source, data in store.positions().items()
            }
        finally:
            store.close()
    except SdaError as error:
        report.faults.append(str(error))
        return {}


def _check_quarantine(
    path: Path,
    positions: dict[str, AppliedPosition],
    reported: dict[str, int],
    report: AuditReport,
) -> None:
    """Rows that were skipped or reported as quarantined are in the file, which is read last: it is
    written first.
    """
    try:
        named = Counter(line.source for line in read_quarantine(path) if line.report)
    except SdaError as error:
        report.faults.append(str(error))
        return
    for source, told in reported.items():
        skipped = positions[source].quarantined if source in positions else 0
        if max(told, skipped) > named[source]:
            report.faults.append(
                f"{source}: {skipped} rows were skipped as quarantined and {told} reported, "
                f"but {path.name} names {named[source]}"
            )


def _dlq_entries(directory: Path, report: AuditReport) -> Counter[str]:
    """How often each rejection stands in the DLQ files, by ``dlq_id``: a log made anew gives it
    another position.
    """
    found: Counter[str] = Counter()
    if not directory.exists():
        return found
    for entry in read_entries(
        directory, lambda s: report.faults.append(f"dlq: {s.file} line {s.line}: {s.why}")
    ):
        found[entry.dlq_id] += 1
        if found[entry.dlq_id] > 1:
            where = f"{entry.operator} partition {entry.partition} offset {entry.offset}"
            report.faults.append(f"dlq: {where} stands there {found[entry.dlq_id]} times")
    return found


def _audit_log(
    name: str,
    topic: str,
    log: LogView,
    applied: AppliedPosition | None,
    in_dlq: Counter[str],
    board: dict[str, int] | None,
    report: AuditReport,
) -> Counts:
    """Walk the retained log: cumulative counts, rejects against the DLQ; returns the counts at its
    end.
    """
    before: Counts | None = None
    done = (board or {}).get(f"{name}.dlq_done", log.end)
    for record in log.records(log.first):
        header, frame = record.header, parse_payload(record.header, record.payload)
        where = f"{name} log position {header.position}"
        rejects = unpack_rejects(record.rejects) if record.rejects else []
        if frame.counts.residue():
            report.faults.append(f"{where}: its classes miss {frame.counts.residue()} of read")
        if before is not None:
            rows, refused = (
                frame.counts.rows - before.rows,
                _refused(frame.counts) - _refused(before),
            )
            if (rows, refused) != (header.logged, len(rejects)):
                report.faults.append(
                    f"{where}: counts say {rows} rows and {refused} rejects, "
                    f"the record holds {header.logged} and {len(rejects)}"
                )
        if header.position <= done:
            for index, reject in enumerate(rejects):
                if not in_dlq[_dlq_id(name, topic, reject)]:
                    report.faults.append(f"{where}: reject {index} is not in the DLQ")
        here = applied and (applied.log_id, applied.position) == (header.log_id, header.position)
        if applied and here and frame.counts.as_tuple() != applied.counts:
            report.faults.append(f"{where}: its counts differ from the correlator's copy")
        before = frame.counts
    anew = applied is not None and log.first == applied.position + 1  # nothing of it is applied yet
    if applied and (log.end < applied.position or (log.log_id != applied.log_id and not anew)):
        report.faults.append(f"{name}: the log ends at {log.end}, below what was applied")
    return before if before is not None else Counts(*(applied.counts if applied else ()))


def _dlq_id(name: str, topic: str, reject: Reject) -> str:
    return dlq_id(
        name, topic, reject.generation, reject.partition, reject.offset, error_kind=reject.kind
    )


def _refused(counts: Counts) -> int:
    """Records that must stand in the DLQ."""
    return counts.rejected + counts.quarantined + counts.reported


def _sum(name: str, counts: Counts, position: AppliedPosition | None) -> SourceAudit:
    known = Counts(*position.counts) if position else Counts()
    source = SourceAudit(
        name, counts.read, late=counts.late, rejected=counts.rejected, discarded=counts.discarded,
        quarantined=counts.quarantined, missing=counts.missing, in_flight=counts.rows - known.rows,
    )  # fmt: skip
    if position:
        source.applied, source.unpaired = position.applied, position.unpaired
        source.duplicate, source.shed = position.duplicate, position.shed
        source.quarantined += position.quarantined
        source.superseded = position.superseded
        source.missing += position.missing
    return source
