"""Open a source's log and broker position; make the log anew when it no longer fits the correlator
(SPEC 4).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from operators.core.positions import SourcePosition
from operators.lost_rejects import Lost, before_log
from operators.reject_cursor import dlq_done
from sda_pipeline.broker.connect import open_consumer
from sda_pipeline.broker.port import Consumer
from sda_pipeline.errors import SdaError, StateCorrupt, Unreachable
from sda_pipeline.log.source_log import LogStart, SourceLog, set_aside
from sda_pipeline.records.frames import Counts, Part, parse_payload
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.state.recovery import CORRELATOR, LOGS
from sda_pipeline.state.store import CorrelatorStore
from sda_pipeline.vocabulary import Step

DLQ = "dlq"  # the dlq-sink's directory


class Opened(NamedTuple):
    """A source's log, where it stands in each partition, its counts, and its door to the broker."""

    log: SourceLog
    parts: tuple[Part, ...]
    counts: Counts
    consumer: Consumer
    dlq_done: int  # rejects of this log up to here are in the DLQ
    applied: int = 0  # the correlator's position when the log was found to fit it
    log_first: int = 0  # where the log began when it was made; 0 when an older release made it
    lost: Lost | None = None
    open_again: Callable[[], Consumer] | None = None


def open_source(worker: Worker, catalogue: int) -> Opened:
    """The log, the partitions and counts it ends with, and a consumer.

    Runs after the correlator's READY and the dlq-sink's.
    """
    topology, name = worker.topology, worker.name
    index = topology.sources.index(name)
    directory = topology.state / LOGS / name
    position = _applied(worker)
    new = LogStart(int.from_bytes(os.urandom(8), "little"), position.position + 1)
    if position.position and not SourceLog.exists(directory):
        worker.event("log_missing", applied=position.position)
    log = SourceLog.open(directory, index, new)
    if log.truncated_bytes:
        worker.event("log_tail_truncated", bytes=log.truncated_bytes, end=log.end)
    worker.fail("recovery_log_repaired")
    if not position.fits(log.log_id, log.first, log.end):
        worker.event("log_does_not_fit", first=log.first, end=log.end, applied=position.position,
                     log_id=f"{log.log_id:016x}")  # fmt: skip
        log.close()
        worker.event("log_set_aside", path=str(set_aside(directory)))
        worker.fail("recovery_log_aside")
        log = SourceLog.open(directory, index, new)
    worker.fail("recovery_log_open")
    parts, counts = _last_known(log, position)
    spec = next(spec for spec in topology.operators if spec.name == name)
    assert spec.topic is not None, "a source has a topic"
    topic = spec.topic

    def connect(*, patient: bool) -> Consumer:
        return open_consumer(
            topology.broker, topic, topology.group, topology.broker_partitions,
            kafka=topology.kafka, patient=patient,
        )  # fmt: skip

    lost = before_log(
        log, position, topology.state / DLQ, name,
        catalogue=catalogue, beat=lambda: worker.beat(Step.RECOVER),
    )  # fmt: skip
    done = log.first - 1 if lost else dlq_done(worker.board, name, log.log_id)
    last = log.last()
    # A first start says at once what is wrong with the broker; a later life has seen it work, and
    # waits for it as it would have done without dying.
    consumer = connect(patient=worker.launch.incarnation > 1)
    return Opened(
        log, parts, counts, consumer, max(done, log.first - 1), position.position,
        last.header.log_first if last else log.first, lost, lambda: connect(patient=True),
    )  # fmt: skip


def _applied(worker: Worker) -> SourcePosition:
    """Where the correlator stands, from its store: what is needed to make a log anew, in one
    look.
    """
    try:
        store = CorrelatorStore(worker.topology.state / CORRELATOR, readonly=True)
        try:
            data = store.positions().get(worker.name)
        finally:
            store.close()
    except (StateCorrupt, Unreachable) as error:
        # It died since its READY and recovers: this source is started again when it is back.
        raise SdaError(error.action, error.why, "it is read again after a restart") from error
    return msgspec.msgpack.decode(data, type=SourcePosition) if data else SourcePosition()


def _last_known(log: SourceLog, position: SourcePosition) -> tuple[tuple[Part, ...], Counts]:
    """Offsets, watermarks and counts: from the log's last record, else from the correlator's
    positions.
    """
    last = log.last()
    if last is None:
        return position.parts, Counts(*position.counts)
    frame = parse_payload(last.header, last.payload)
    return frame.parts, frame.counts
