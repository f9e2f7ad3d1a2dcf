"""Audit of the correlator's store: its positions against the logs, its outbox and facts against
themselves. Not what the alerts say (``audit_alerts.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from sda_pipeline.errors import StateCorrupt, Unreachable
from sda_pipeline.limits import PANE_NS
from sda_pipeline.log.source_log import LogView
from sda_pipeline.records.alert import EPOCH_SHIFT
from sda_pipeline.records.frames import Counts, Part, parse_payload
from sda_pipeline.records.rows import ROW
from sda_pipeline.runtime.audit_log import Walked
from sda_pipeline.runtime.audit_report import AuditReport, Fault, SourceAudit
from sda_pipeline.state.seal import Classes
from sda_pipeline.state.store import Contents, CorrelatorStore

_T = TypeVar("_T")
CLASSES = Classes.__struct_fields__


class Position(Classes, kw_only=True):
    """One entry of the correlator's ``positions``; what it means is in the operators' core."""

    log_id: int = 0
    log_first: int = 0
    position: int = 0
    watermark: int | None = None
    ended: bool = False
    parts: tuple[Part, ...] = ()
    counts: tuple[int, ...] = Counts().as_tuple()
    catalogues: tuple[int, ...] | None = None  # None: a release wrote it that did not keep them

    def classes(self) -> int:
        """Rows up to ``position`` by what the correlator made of them, summed."""
        return sum(int(getattr(self, name)) for name in CLASSES)


class HeldAlert(msgspec.Struct, kw_only=True):
    """One entry of the correlator's ``alerts``."""

    alert_id: str
    low: int
    high: int
    tca_ns: int
    catalogue: int
    sequence: int = 0
    level: str | None = None
    final: bool = False
    record: dict[str, Any] | None = None

    @property
    def closes_ns(self) -> int:
        return (self.tca_ns // PANE_NS + 1) * PANE_NS


class StoreAudit:
    """The store as of one moment. Nothing in it when there is none or it cannot be read."""

    def __init__(self, directory: Path, report: AuditReport) -> None:
        self._directory = directory
        self.contents: Contents | None = None
        self.positions: dict[str, Position] = {}
        self.alerts: dict[str, HeldAlert] = {}
        if directory.exists():
            with report.reading():
                self._load()

    def _load(self) -> None:
        store = CorrelatorStore(self._directory, readonly=True)
        try:
            contents = store.contents()
        finally:
            store.close()
        self.positions = positions_in(contents)
        self.alerts = {
            alert: _decoded(data, HeldAlert, f"state of alert {alert}")
            for alert, data in contents.alerts.items()
        }
        self.contents = contents

    @property
    def epoch(self) -> int:
        return self.contents.meta.epoch if self.contents else 0

    @property
    def epoch_id(self) -> int:
        return self.contents.meta.epoch_id if self.contents else 0

    def position(self, source: str) -> Position:
        """Where it stands in a source's log; at the beginning when it has no entry for it."""
        return self.positions.get(source) or Position()

    def dlq_done(self, source: str) -> tuple[int, int]:
        """Log id and position that the DLQ had reached at the last commit; zeros: not known."""
        told = self.contents.meta.dlq_done if self.contents else {}
        return told.get(source, (0, 0))

    def check(self, sources: tuple[str, ...], lateness_ns: int, fault: Fault) -> None:
        """What the store says of itself."""
        if self.contents is None:
            return
        meta, seal = self.contents.meta, self.contents.seal
        for difference in seal.differences(self.contents.found) if seal is not None else ():
            fault(f"correlator {difference}")
        for source in self.positions.keys() - {*sources}:
            fault(f"correlator positions: they name {source}, which is no source")
        held = [entry.position for entry in self.contents.outbox]
        if held != [*range(meta.outbox_deleted + 1, meta.outbox_end + 1)]:
            says = f"it says {meta.outbox_deleted + 1:#x} to {meta.outbox_end:#x}"
            fault(f"correlator outbox: its entries are {_spans(held)}, {says}")
        if meta.epoch != meta.outbox_end >> EPOCH_SHIFT:
            fault(f"correlator meta: its epoch is {meta.epoch}, its outbox ends at "
                  f"{meta.outbox_end:#x}")  # fmt: skip
        told = (position.watermark for position in self.positions.values())
        crossed = min((mark for mark in told if mark is not None), default=0)
        if meta.closed_to > max(0, (crossed - lateness_ns) // PANE_NS * PANE_NS):
            fault(f"correlator meta: closed to {meta.closed_to}, beyond what its watermarks allow")
        for source, position in self.contents.rows:
            if position > self.position(source).position:
                fault(f"correlator rows: of {source} position {position}, which is not applied")

    def check_source(self, source: str, walked: Walked, fault: Fault) -> None:
        """One source's entry against its log."""
        position, where = self.position(source), f"correlator positions of {source}"
        for found in _position_faults(position, walked):
            fault(f"{where}: {found}")
        counts = Counts(*position.counts)
        if position.classes() != counts.rows:
            says = f"the source had logged {counts.rows} rows"
            fault(f"{where}: its classes add up to {position.classes()}, {says}")
        for name in CLASSES:
            if getattr(position, name) < 0:
                fault(f"{where}: '{name}' is below 0")
        kept = sum(size for (s, _), size in self.retained() if s == source) // ROW.itemsize
        if kept > position.applied + position.duplicate:
            counted = f"{position.applied} applied and {position.duplicate} duplicates"
            fault(f"{where}: it counts {counted}, and keeps {kept} rows")

    def retained(self) -> list[tuple[tuple[str, int], int]]:
        """(source, position) and bytes of the rows it keeps."""
        return [] if self.contents is None else [*self.contents.rows.items()]

    def check_rows(self, logs: Mapping[str, LogView], report: AuditReport) -> None:
        """Every retained row is one that its source logged at that position."""
        if self.contents is None or not self.contents.rows:
            return
        with report.reading():
            store = CorrelatorStore(self._directory, readonly=True)
            try:
                for (source, position), data in store.rows():
                    log = logs.get(source)
                    if log is not None and not _was_logged(log, position, data):
                        report.fault(
                            f"correlator rows: what it keeps of {source} position {position} is "
                            "not what the source logged"
                        )
            finally:
                store.close()

    def sum_of(self, source: str, walked: Walked) -> SourceAudit:
        """The classes of everything read from a source."""
        position = self.position(source)
        known = Counts(*position.counts)
        counts = walked.last.counts if walked.last else known
        return SourceAudit(
            source, counts.read, applied=position.applied, unpaired=position.unpaired,
            duplicate=position.duplicate, late=counts.late, shed=position.shed,
            rejected=counts.rejected, discarded=counts.discarded,
            quarantined=counts.quarantined + position.quarantined,
            superseded=position.superseded, missing=counts.missing + position.missing,
            in_flight=counts.rows - known.rows,
        )  # fmt: skip


def positions_in(contents: Contents) -> dict[str, Position]:
    """The entries of ``positions`` by source; StateCorrupt when one is none."""
    return {
        source: _decoded(data, Position, f"positions of {source}")
        for source, data in contents.positions.items()
    }


def _position_faults(position: Position, walked: Walked) -> Iterator[str]:
    """A position against the log it speaks of."""
    applied = position.position
    if walked.log_id != position.log_id:
        if walked.first != applied + 1:  # another log goes on exactly there, or not at all
            yield (
                f"it stands at {applied} of log {position.log_id:016x}, the log is "
                f"{walked.log_id:016x} from {walked.first} on"
            )
        return
    if not walked.first - 1 <= applied <= walked.end:
        yield f"it stands at {applied}, the log holds {walked.first} to {walked.end}"
    lowest = walked.first if walked.whole else 1
    if applied and not lowest <= position.log_first <= walked.first:
        yield f"it took the log up at {position.log_first}, which begins at {walked.first}"
    if position.missing and position.log_first == 1:
        yield f"{position.missing} rows are missing before the log's first"
    yield from _catalogue_faults(position, walked)
    here = walked.at.get(applied)
    if here is None:
        return
    assert here.header is not None
    for what, own, logged in (
        ("counts", tuple(position.counts), here.counts.as_tuple()),
        ("offsets and watermarks", tuple(position.parts), tuple(here.parts.values())),
        ("watermark", position.watermark, here.header.watermark),
        ("end", position.ended, here.ended),
    ):
        if own != logged:
            yield f"its copy of the {what} at {applied} is {own}, the log says {logged}"


def _catalogue_faults(position: Position, walked: Walked) -> Iterator[str]:
    """Every frame it applied was of a catalogue that it has noted, the newest of the last."""
    known, here = position.catalogues, walked.at.get(position.position)
    if known is None:
        return
    for catalogue, first in walked.catalogues.items():
        if first <= position.position and catalogue not in known:
            yield f"it has applied nothing of catalogue {catalogue:016x}, which position {first} is"
    if here is not None and here.header is not None and known[-1:] != (here.header.catalogue,):
        yield f"its last frame was not of catalogue {here.header.catalogue:016x}, as the log says"


def _was_logged(log: LogView, position: int, data: bytes) -> bool:
    """Whether these rows are of that record; True when the log does not hold it any more."""
    if not log.first <= position <= log.end:
        return True
    try:
        record = log.read(position)
    except Unreachable:  # its segment was deleted meanwhile
        return True
    return _contained(data, parse_payload(record.header, record.payload).rows.tobytes())


def _contained(part: bytes, whole: bytes) -> bool:
    """Whether rows are among other rows, in the same order."""
    if part == whole:
        return True
    if len(part) % ROW.itemsize:
        return False
    size = f"V{ROW.itemsize}"
    others = {row: at for at, row in enumerate(np.frombuffer(whole, size).tolist())}
    places = [others.get(row, -1) for row in np.frombuffer(part, size).tolist()]
    return -1 not in places and all(a < b for a, b in pairwise(places))


def _spans(positions: list[int]) -> str:
    """Positions as spans without gaps, in few words."""
    if not positions:
        return "none"
    gaps = [at for at in range(1, len(positions)) if positions[at] != positions[at - 1] + 1]
    edges = [0, *gaps[:3], len(positions)]
    spans = [f"{positions[a]:#x} to {positions[b - 1]:#x}" for a, b in pairwise(edges)]
    return ", ".join(spans) + ("..." if len(gaps) > 3 else "")


def _decoded(data: bytes, kind: type[_T], what: str) -> _T:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise StateCorrupt(f"read the correlator's {what}", str(error)) from error
