"""Open the correlator: recover its store, rebuild the core, settle catalogue and epoch (DESIGN 10).

Which store is good is ``state/recovery.py``; what happens in a step is ``correlator.py``.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, TypeVar

import msgspec
import numpy as np

from operators.checkpoint import Checkpoints, numbered
from operators.core.alerts import AlertState, emitted_again
from operators.core.correlation import Correlation
from operators.core.positions import SourcePosition
from operators.core.schedule import OpenAlert, pane_of
from operators.held import take_out
from operators.recovery_count import count_recovery
from operators.remote_beyond import what_lies_beyond
from sda_pipeline.dlq.quarantine_file import NAME, read_quarantine
from sda_pipeline.errors import InvalidConfiguration, StateCorrupt
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.log.source_log import read_log
from sda_pipeline.records.alert import EPOCH_SHIFT, KIND_RECORDS, NUMBER_MASK, Entry, raw_records
from sda_pipeline.records.frames import Counts, parse_payload
from sda_pipeline.records.rows import ROW
from sda_pipeline.runtime.worker import Worker, check_not_behind
from sda_pipeline.state.recovery import LOGS, Recovered, Rung, recover
from sda_pipeline.state.store import Changes, CorrelatorStore, Meta
from sda_pipeline.topology import Inputs

_encode = msgspec.msgpack.encode
_T = TypeVar("_T")


def open_checkpoints(worker: Worker, inputs: Inputs) -> tuple[Correlation, Checkpoints]:
    """The core as the highest good rung left it, and the store behind it; before READY.

    InvalidConfiguration when it was built with another catalogue and that was not accepted; Rewind
    when it stands behind what upstream was told.
    """
    started = worker.clock.monotonic_ns()
    beyond = what_lies_beyond(worker)
    recovered = recover(worker.topology.state, worker.event, worker.fail, beyond)
    store, meta = recovered.store, recovered.store.meta
    rung = recovered.rung
    if meta.epoch_due and meta.rung:  # that recovery was killed before it said so: this ends it
        rung = Rung(meta.rung)
    told = _put_back(worker, store)
    superseded = not store.empty and meta.catalogue != inputs.hash
    if superseded and not worker.launch.flags.accept_catalogue:
        raise InvalidConfiguration(
            "start",
            [f"the state was built with catalogue {meta.catalogue:016x}, not {inputs.hash:016x}"],
            "put the old catalogue, sensors and physics back, or start with --accept-catalogue",
        )
    core = _rebuild(worker, inputs, store, meta)
    if superseded:
        meta = _supersede(store, core, meta, inputs.hash)
        worker.event("catalogue_accepted", catalogue=f"{inputs.hash:016x}")
    else:
        take_out(worker, core, store)
        core.restore([(key, np.frombuffer(data, ROW)) for key, data in store.rows()])
    if store.empty:
        meta = _begin(worker, recovered, core, inputs.hash, _drawn())
    elif why := _why_new_epoch(worker, meta):
        meta = _raise_epoch(store, core, meta, _epoch_above_all(worker, recovered), _drawn())
        worker.event("epoch_raised", epoch=meta.epoch, why=why)
    count_recovery(worker, rung)
    worker.fail("recovery_epoch")
    seconds = (worker.clock.monotonic_ns() - started) / SECOND_NS
    positions = {source: position.position for source, position in core.positions.items()}
    worker.event("recovered", path=rung, seconds=round(seconds, 3), epoch=meta.epoch,
                 snapshot=meta.snapshot, positions=positions)  # fmt: skip
    for source, position in positions.items():
        check_not_behind(worker, f"{source}.applied", position, told[source])
    return core, Checkpoints(store, meta, worker.clock, lambda: _dlq_done(worker))


def _put_back(worker: Worker, store: CorrelatorStore) -> dict[str, int]:
    """What was told to be applied; where the store stands behind that, the board says so from here
    on: a living source must not delete what is needed again.
    """
    board, stored = worker.board, store.positions()
    told = {source: board.get(f"{source}.applied") for source in worker.topology.sources}
    for source, before in told.items():
        data = stored.get(source)
        position = _decoded(data, SourcePosition).position if data else 0
        if position < before:
            board.set(f"{source}.applied", position)
    return told


def _dlq_done(worker: Worker) -> dict[str, tuple[int, int]]:
    """Which log's rejects the DLQ holds, and up to where, by source, as far as the board says."""
    board = worker.board
    told = {s: (board.get(f"{s}.dlq_log"), board.get(f"{s}.dlq_done"))
            for s in worker.topology.sources}  # fmt: skip
    return {source: (log_id, done) for source, (log_id, done) in told.items() if log_id}


def _rebuild(worker: Worker, inputs: Inputs, store: CorrelatorStore, meta: Meta) -> Correlation:
    """The core without its rows."""
    states = {key: _decoded(data, AlertState) for key, data in store.alerts().items()}
    adopted = [
        OpenAlert(state.alert_id, state.low, state.high, state.tca_ns)
        for state in states.values()
        if not state.final and state.catalogue != inputs.hash
    ]
    core = Correlation(
        inputs.catalogue, worker.topology.physics, worker.topology.event_time,
        worker.topology.sources, inputs.hash, adopted,
    )  # fmt: skip
    for source, data in store.positions().items():
        if source in core.positions:
            core.positions[source] = _decoded(data, SourcePosition)
    core.alerts.update(states)
    core.closed_to = meta.closed_to
    for line in read_quarantine(worker.topology.state / NAME):
        if line.report:  # others never became a row
            core.quarantined.setdefault(line.source, set()).add(line.coordinates)
    return core


def _decoded(data: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        hint = "use the release that wrote it"
        raise StateCorrupt("read the correlator's store", str(error), hint) from error


def _drawn() -> int:
    """The id of a new epoch: two pipelines that count alike tell their snapshots apart by it."""
    return int.from_bytes(os.urandom(8), "little") or 1


def _begin(
    worker: Worker, recovered: Recovered, core: Correlation, catalogue: int, epoch_id: int
) -> Meta:
    """A new store: its first epoch, and each source from the first position its log still has."""
    for source in core.positions:
        position = _log_start(worker, source)
        if position is not None:
            core.positions[source] = position
            worker.event("recovery_gap", source=source, rows=position.missing,
                         through=position.position)  # fmt: skip
    epoch = _epoch_above_all(worker, recovered)
    start = epoch << EPOCH_SHIFT
    meta = Meta(
        catalogue=catalogue, epoch=epoch, epoch_id=epoch_id, outbox_end=start, outbox_deleted=start
    )
    encoded = {source: _encode(found) for source, found in core.positions.items() if found.log_id}
    recovered.store.commit(Changes(positions=encoded, meta=meta), lambda: None)
    return meta


def _log_start(worker: Worker, source: str) -> SourcePosition | None:
    """Where a source's log starts when its beginning is gone; None when nothing is missing."""
    log = read_log(worker.topology.state / LOGS / source)
    if log.first <= 1 or log.end < log.first:
        return None
    first = log.read(log.first)
    before = parse_payload(first.header, first.payload).counts.rows - first.header.logged
    return SourcePosition(
        log_id=log.log_id, log_first=log.first, position=log.first - 1, missing=before,
        catalogues=(),
        counts=Counts(read=before, rows=before).as_tuple(),
    )  # fmt: skip


def _why_new_epoch(worker: Worker, meta: Meta) -> str:
    """Why what is held must be said again under a higher epoch; "" when it need not."""
    board = worker.board
    sink = board.get("sink_pos")
    if meta.epoch_due:
        return f"restored from snapshot {meta.snapshot}"
    if meta.outbox_deleted > sink and meta.outbox_deleted & NUMBER_MASK:
        return f"the sink lacks what was deleted up to {meta.outbox_deleted:#x}"
    told = max(board.get(word) for word in ("sink_pos", "sub_pos", "outbox_end"))
    if max(told, board.get("epoch") << EPOCH_SHIFT) > meta.outbox_end:
        return f"the store ends at {meta.outbox_end:#x}, {told:#x} was seen"
    if board.get("remote_epoch") > meta.epoch:
        return f"the remote holds snapshots of epoch {board.get('remote_epoch')}"
    if board.get("remote_rival") == meta.epoch:
        return f"the remote holds another writer's snapshots of epoch {meta.epoch}"
    return ""


def _epoch_above_all(worker: Worker, recovered: Recovered) -> int:
    """One more than every epoch that sink, subscriber, board, a snapshot or the store knows."""
    board = worker.board
    seen = [board.get(word) >> EPOCH_SHIFT for word in ("sink_pos", "sub_pos", "outbox_end")]
    known = recovered.known_epoch, board.get("epoch"), board.get("remote_epoch")
    return 1 + max(*seen, *known)


def _raise_epoch(
    store: CorrelatorStore, core: Correlation, meta: Meta, epoch: int, epoch_id: int
) -> Meta:
    """Begin an epoch and say all that is held again, in one transaction."""
    emitted: list[list[dict[str, Any]] | int] = [
        *emitted_again(core.alerts.values(), _records(store.outbox()), epoch)
    ]
    if core.closed_to:  # the readers then withdraw what an older epoch raised and nobody holds
        emitted.append(core.closed_to)
    start = epoch << EPOCH_SHIFT
    entries = numbered(emitted, start)
    meta = msgspec.structs.replace(
        meta, epoch=epoch, epoch_id=epoch_id, epoch_due=False, outbox_deleted=start,
        outbox_end=entries[-1].position if entries else start,
    )  # fmt: skip
    alerts = {key: _encode(state) for key, state in core.alerts.items()}
    changes = Changes(alerts=alerts, outbox=entries, outbox_gone_through=start, meta=meta)
    store.commit(changes, lambda: None)
    return meta


def _records(entries: list[Entry]) -> list[dict[str, Any]]:
    """The last record of each entry that holds records, oldest first."""
    return [raw_records(entry.body)[-1] for entry in entries if entry.kind == KIND_RECORDS]


def _supersede(store: CorrelatorStore, core: Correlation, meta: Meta, catalogue: int) -> Meta:
    """Another catalogue was accepted: retained rows speak of the old one and become
    ``superseded``.
    """
    gone: list[tuple[str, int]] = []
    counted: Counter[str] = Counter()
    seen: set[tuple[int, int, bytes]] = set()
    for (source, position), data in store.rows():
        gone.append((source, position))
        for row in np.frombuffer(data, ROW):
            identity = (int(row["sat"]), pane_of(int(row["t"])), row["id"].tobytes())
            counted[source] += identity not in seen
            seen.add(identity)
    for source, rows in counted.items():
        moved = min(rows, core.positions[source].applied)
        core.positions[source].applied -= moved
        core.positions[source].superseded += moved
    meta = msgspec.structs.replace(meta, catalogue=catalogue)
    encoded = {source: _encode(core.positions[source]) for source in counted}
    store.commit(Changes(rows_gone=gone, positions=encoded, meta=meta), lambda: None)
    return meta
