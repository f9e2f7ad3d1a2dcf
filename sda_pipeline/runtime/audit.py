"""Prove that every record read ended in exactly one class and every alert in its effect, from the
files alone (DESIGN 3, P5). Read-only. What is checked is in the modules ``audit_*`` beside it.

Works on a running and on a stopped pipeline. Every store is read as of one moment, a receiver
before its sender, so what moved on in between counts as in flight, never as lost.
"""

from __future__ import annotations

from collections.abc import Mapping

from sda_pipeline.clock import Clock, SystemClock
from sda_pipeline.dlq.quarantine_file import NAME as QUARANTINE
from sda_pipeline.dlq.quarantine_file import read_quarantine
from sda_pipeline.errors import Unreachable
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.log.segments import list_segments
from sda_pipeline.log.source_log import LogView, read_log
from sda_pipeline.records.alert import NUMBER_MASK
from sda_pipeline.runtime.audit_alerts import SinkAudit, check_outbox, check_states
from sda_pipeline.runtime.audit_board import ReadBoard, Truth, check_board
from sda_pipeline.runtime.audit_dlq import Beginning, DlqAudit
from sda_pipeline.runtime.audit_ledger import LedgerAudit
from sda_pipeline.runtime.audit_log import Rules, Walked, walk
from sda_pipeline.runtime.audit_report import AuditReport, SourceAudit
from sda_pipeline.runtime.audit_snapshots import check_snapshots, oldest_kept
from sda_pipeline.runtime.audit_store import StoreAudit
from sda_pipeline.settings import KIND_CODES
from sda_pipeline.state import alert_log, subscriber_store
from sda_pipeline.state.manifest import Manifest
from sda_pipeline.state.recovery import CORRELATOR, LOGS, SNAPSHOTS
from sda_pipeline.topology import Topology

__all__ = ["AuditReport", "SourceAudit", "audit"]

ALERTS = "alerts.sqlite"
COMPLETE = "complete"  # the supervisor writes it when a finite run has delivered everything
WALKS_MAX = 5  # a segment may be deleted under a walk, rarely two in a row


def audit(
    topology: Topology, board: ReadBoard | None = None, clock: Clock | None = None
) -> AuditReport:
    """Audit the state directory. ``board`` reads the board of a running pipeline, None of one that
    has stopped meanwhile.
    """
    found = _Audit(topology)
    first = board() if board is not None else None
    found.read_stores()
    for source in topology.sources:
        found.read_log(source)
    found.check_rest()
    if board is not None and first is not None:
        truths = found.truths(first)
        check_board(first, truths, board, clock or SystemClock(), found.report.fault)
    return found.report


class _Audit:
    """One audit: what was read of each store, in the order in which it must be read."""

    def __init__(self, topology: Topology) -> None:
        self.topology, self.report = topology, AuditReport()
        self.logs: dict[str, LogView] = {}
        self.walked: dict[str, Walked] = {}
        self.sink_pos = self.sub_pos = 0
        self.manifests: list[Manifest] = []

    def read_stores(self) -> None:
        """Correlator, subscriber, sink, DLQ: receivers before their senders."""
        topology, report = self.topology, self.report
        settings = topology.event_time
        self.store = StoreAudit(topology.state / CORRELATOR, report)
        lateness_ns = round(settings.allowed_lateness_s * SECOND_NS)
        self.store.check(topology.sources, lateness_ns, report.fault)
        with report.reading():
            self.read_alerts()
        self.dlq = DlqAudit(topology, self._beginnings(), report)

    def read_alerts(self) -> None:
        """Subscriber and sink, each in one snapshot, against each other and the correlator."""
        topology, report, fault = self.topology, self.report, self.report.fault
        path = topology.subscriber / subscriber_store.FILE_NAME
        with alert_log.viewing(topology.state / ALERTS) as view:
            confirmed = view.confirmed() if view is not None else 0
        with subscriber_store.viewing(path) as subscriber:
            ledger = LedgerAudit(subscriber, fault)
            self.sub_pos = subscriber.position if subscriber else 0
            if self.sub_pos < confirmed:
                says = f"the sink was told {confirmed:#x}"
                fault(f"subscriber.sqlite: it stands at {self.sub_pos:#x}, {says}")
            with alert_log.viewing(topology.state / ALERTS) as view:
                if view is None:
                    ledger.begin(1, pruned=False)
                    ledger.finish(0, 0, pruned=False)
                    return
                self.sink_pos = view.position
                sink = SinkAudit(view, ledger, fault)
                sink.check()
            held = sum(position > self.sub_pos for position in sink.entries)
            report.waiting["alerts not yet at the subscriber"] = held
        contents = self.store.contents
        if contents is not None:
            sent = (entry.position > self.sink_pos for entry in contents.outbox)
            report.waiting["alerts not yet at the sink"] = sum(sent)
            check_outbox(contents, sink, fault)
            check_states(contents, self.store.alerts, sink, fault)

    def _beginnings(self) -> dict[str, Beginning]:
        """Which log each source has, and from where on."""
        found = {}
        for source in self.topology.sources:
            with self.report.reading():
                segments = list_segments(self.topology.state / LOGS / source)
                if segments:
                    header = segments[0].header
                    found[source] = (f"{header.log_id:016x}", header.first)
        return found

    def read_log(self, source: str) -> None:
        """Walk one source's log; check its DLQ entries and the correlator's copy by it."""
        report, store, dlq = self.report, self.store, self.dlq
        walked = Walked(0, 1, 0, whole=True)
        with report.reading():
            walked = self._walk(source)
            position = store.position(source)
            own = position.log_id == walked.log_id and position.log_first == 1
            unbroken = own or (walked.whole and walked.first == 1)
            dlq.check_source(source, walked, store.dlq_done(source), unbroken=unbroken)
            store.check_source(source, walked, report.fault)
        self.walked[source] = walked
        summed = store.sum_of(source, walked)
        report.sources.append(summed)
        if summed.residue:
            report.fault(f"{source}: read exceeds the sum of its classes by {summed.residue}")
        if summed.in_flight < 0:
            report.fault(f"{source}: {-summed.in_flight} more rows are applied than were logged")

    def _walk(self, source: str) -> Walked:
        topology, settings = self.topology, self.topology.event_time
        kind = topology.kind_of(source).removesuffix("-source")
        rules = Rules(
            source, topology.sources.index(source), KIND_CODES[kind],
            round(settings.max_lateness_s[kind] * SECOND_NS),
            round(settings.allowed_lateness_s * SECOND_NS),
            topology.broker.startswith("embedded:"),
        )  # fmt: skip
        mark = self.dlq.mark(source)
        wanted = {self.store.position(source).position, mark.position, mark.done}
        for attempt in range(WALKS_MAX):
            faults, waiting = len(self.report.faults), self.dlq.waiting
            log = self.logs[source] = read_log(topology.state / LOGS / source)
            try:
                return walk(
                    log, rules, wanted,
                    lambda header, rejects: self.dlq.rejects(source, header, rejects),
                    self.report.fault,
                )  # fmt: skip
            except Unreachable:
                if attempt + 1 == WALKS_MAX:
                    raise
                del self.report.faults[faults:]
                self.dlq.waiting = waiting
        raise AssertionError("the last walk returns or raises")

    def check_rest(self) -> None:
        """What needs all the logs, or must be read after them."""
        topology, report, store = self.topology, self.report, self.store
        if store.contents is None and any(walked.last for walked in self.walked.values()):
            report.fault("correlator: it has no store that can be read, and the logs hold records")
        store.check_rows(self.logs, report)
        reported = {s: w.last.counts.reported if w.last else 0 for s, w in self.walked.items()}
        skipped = {source: store.position(source).quarantined for source in topology.sources}
        sealed = store.contents is not None and store.contents.seal is not None
        self.dlq.check_quarantine(topology.state, reported, skipped, sealed=sealed)
        report.waiting["rejects not yet in the DLQ"] = self.dlq.waiting
        directory = topology.state / SNAPSHOTS
        self.manifests = check_snapshots(directory, topology.state / CORRELATOR, report)
        if (topology.state / COMPLETE).exists():
            self._check_complete()

    def _check_complete(self) -> None:
        """A run that says it has delivered everything has."""
        fault, meta = self.report.fault, self.store.contents and self.store.contents.meta
        for source, walked in self.walked.items():
            reached = {
                "applied": self.store.position(source).position,
                "in the DLQ": self.dlq.done(source, walked.log_id),
            }
            for what, position in reached.items():
                if position != walked.end:
                    says = f"{source} is {what} up to {position}, its log ends at {walked.end}"
                    fault(f"{COMPLETE}: {says}")
            if walked.last is None or not walked.last.ended:
                fault(f"{COMPLETE}: {source} has not ended")
        end = meta.outbox_end if meta and meta.outbox_end & NUMBER_MASK else self.sink_pos
        if not end == self.sink_pos == self.sub_pos:
            at = f"outbox {end:#x}, sink {self.sink_pos:#x}, subscriber {self.sub_pos:#x}"
            fault(f"{COMPLETE}: not everything is delivered: {at}")

    def truths(self, board: Mapping[str, int]) -> dict[str, Truth]:
        """What each position word must say, by what is durable."""
        names = {spec.kind: spec.name for spec in self.topology.operators}
        correlator, replicator = names["correlator"], names["replicator"]
        newest = self.manifests[0].sequence if self.manifests else 0
        found = {
            "sink_pos": Truth(names["alert-sink"], self.sink_pos),
            "sub_pos": Truth(names["subscriber"], self.sub_pos),
            "snapshot_seq": Truth(replicator, newest, exact=False),
        }
        if self.store.contents is not None:
            meta = self.store.contents.meta
            found["outbox_end"] = Truth(correlator, meta.outbox_end)
            found["epoch"] = Truth(correlator, meta.epoch)
        lines = read_quarantine(self.topology.state / QUARANTINE)
        for source, walked in self.walked.items():
            told = max((line.report for line in lines if line.source == source), default=0)
            mark = self.dlq.mark(source)
            found |= {
                f"{source}.applied": Truth(correlator, self.store.position(source).position),
                f"{source}.dlq_done": Truth(
                    names["dlq-sink"], mark.done, exact=board[f"{source}.log_id"] == mark.log_id
                ),
                f"{source}.dlq_log": Truth(names["dlq-sink"], mark.log_id),
                f"{source}.snapshot": Truth(
                    replicator, oldest_kept(self.manifests, source), exact=False
                ),
                f"{source}.quarantined": Truth("", told, exact=False),
                f"{source}.log_id": Truth(source, walked.log_id),
                f"{source}.log_end": Truth(source, walked.end),
            }
            if walked.last is not None:
                marks = [part.watermark for part in walked.last.parts.values()]
                found |= {
                    f"{source}.watermark": Truth(source, max(min(marks, default=0), 0)),
                    f"{source}.ended": Truth(source, int(walked.last.ended)),
                    f"{source}.reported": Truth(source, walked.last.counts.reported),
                }
        return found
