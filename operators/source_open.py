"""Open a source's log and broker position; make the log anew when it no longer fits the correlator
(SPEC 4).
"""

from __future__ import annotations

import os
from typing import NamedTuple

import msgspec

from operators.core.positions import SourcePosition
from sda_pipeline.broker.connect import open_consumer
from sda_pipeline.broker.port import Consumer
from sda_pipeline.log.source_log import LogStart, SourceLog, set_aside
from sda_pipeline.records.frames import Counts, Part, parse_payload
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.state.store import CorrelatorStore


class Opened(NamedTuple):
    """A source's log, where it stands in each partition, its counts, and its door to the broker."""

    log: SourceLog
    parts: tuple[Part, ...]
    counts: Counts
    consumer: Consumer
    dlq_done: int  # rejects of this log up to here are in the DLQ


def open_source(worker: Worker) -> Opened:
    """The log, the partitions and counts it ends with, and a consumer.

    Runs after the correlator's READY.
    """
    topology, name = worker.topology, worker.name
    index = topology.sources.index(name)
    directory = topology.state / "log" / name
    applied = worker.board.get(f"{name}.applied")
    new = LogStart(int.from_bytes(os.urandom(8), "little"), applied + 1)
    if applied and not SourceLog.exists(directory):
        worker.event("log_missing", applied=applied)
    created = not SourceLog.exists(directory)
    log = SourceLog.open(directory, index, new)
    if log.truncated_bytes:
        worker.event("log_tail_truncated", bytes=log.truncated_bytes, end=log.end)
    if log.end < applied or log.first > applied + 1:
        worker.event("log_does_not_fit", first=log.first, end=log.end, applied=applied)
        log.close()
        worker.event("log_set_aside", path=str(set_aside(directory)))
        log, created = SourceLog.open(directory, index, new), True
    parts, counts = _last_known(worker, log)
    spec = next(spec for spec in topology.operators if spec.name == name)
    assert spec.topic is not None, "a source has a topic"
    consumer = open_consumer(
        topology.broker, spec.topic, topology.pipeline, topology.broker_partitions
    )
    # What the board says of an earlier log does not speak of a new one.
    dlq_done = log.first - 1 if created else worker.board.get(f"{name}.dlq_done")
    return Opened(log, parts, counts, consumer, dlq_done)


def _last_known(worker: Worker, log: SourceLog) -> tuple[tuple[Part, ...], Counts]:
    """Offsets, watermarks and counts: from the log's last record, else from the correlator's
    positions.
    """
    last = log.last()
    if last is not None:
        frame = parse_payload(last.header, last.payload)
        return frame.parts, frame.counts
    store = CorrelatorStore(worker.topology.state / "correlator", readonly=True)
    try:
        data = store.positions().get(worker.name)
    finally:
        store.close()
    if data is None:
        return (), Counts()
    position = msgspec.msgpack.decode(data, type=SourcePosition)
    return position.parts, Counts(*position.counts)
