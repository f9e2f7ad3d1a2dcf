"""Between the correlator's core and its store: rebuild on open, one transaction per step. No
decisions on rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from operators.core.alerts import AlertState
from operators.core.correlation import Correlation, Effects
from operators.core.positions import SourcePosition
from operators.core.schedule import OpenAlert, pane_of
from sda_pipeline.clock import Clock
from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.limits import MIB
from sda_pipeline.records.alert import (
    EPOCH_SHIFT,
    Entry,
    entry_of_closed,
    entry_of_records,
)
from sda_pipeline.records.rows import ROW
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.state.store import Changes, CorrelatorStore, Meta
from sda_pipeline.topology import Inputs

_encode = msgspec.msgpack.encode


class Checkpoints:
    """The store, the outbox counter and the pauses its commits cause."""

    def __init__(self, store: CorrelatorStore, meta: Meta, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self.meta = meta
        self.outbox = store.outbox()
        self._pauses_ns: list[int] = []

    @property
    def epoch(self) -> int:
        return self.meta.epoch

    @property
    def outbox_end(self) -> int:
        return self.meta.outbox_end

    def commit(
        self, core: Correlation, effects: Effects, sink_pos: int, inside: Callable[[], None]
    ) -> list[Entry]:
        """Make one step durable in one transaction; returns the new outbox entries to publish.

        Nothing is written when nothing changed. Entries at or below ``sink_pos`` are deleted on
        the way.
        """
        entries = self._number(effects)
        if not (effects.sources or entries or effects.alerts or effects.rows_gone):
            return entries
        started = self._clock.monotonic_ns()
        gone = max(self.meta.outbox_deleted, min(sink_pos, self.meta.outbox_end))
        end = entries[-1].position if entries else self.meta.outbox_end
        closed_to = self.meta.closed_to if effects.closed_to is None else effects.closed_to
        meta = msgspec.structs.replace(
            self.meta, outbox_end=end, outbox_deleted=gone, closed_to=closed_to
        )
        self._store.commit(
            Changes(
                rows=effects.rows,
                rows_gone=effects.rows_gone,
                positions={s: _encode(core.positions[s]) for s in sorted(effects.sources)},
                alerts={key: _encode(state) for key, state in effects.alerts.items()},
                alerts_gone=effects.alerts_gone,
                outbox=entries,
                outbox_gone_through=gone if gone > self.meta.outbox_deleted else 0,
                meta=meta,
            ),
            inside,
        )
        self.meta = meta
        self._pauses_ns.append(self._clock.monotonic_ns() - started)
        return entries

    def _number(self, effects: Effects) -> list[Entry]:
        """Give each emission the next outbox position."""
        entries = []
        for position, emitted in enumerate(effects.emitted, self.meta.outbox_end + 1):
            if isinstance(emitted, int):
                entries.append(entry_of_closed(position, emitted))
            else:
                entries.append(entry_of_records(position, emitted))
        return entries

    def summary(self) -> dict[str, Any]:
        """Checkpoint pauses since the last summary, ms; empty when there was none."""
        if not self._pauses_ns:
            return {}
        pauses = np.array(self._pauses_ns) / 1e6
        self._pauses_ns.clear()
        p50, p99 = np.percentile(pauses, [50, 99]).tolist()
        return {
            "count": len(pauses),
            "p50_ms": round(p50, 3),
            "p99_ms": round(p99, 3),
            "max_ms": round(float(pauses.max()), 3),
            "state_mib": round(self._store.used_bytes() / MIB, 3),
        }

    def close(self) -> None:
        self._store.close()


def open_checkpoints(worker: Worker, inputs: Inputs) -> tuple[Correlation, Checkpoints]:
    """Open the store, check it belongs to this catalogue, rebuild the core from it, sync what was
    found.
    """
    store = CorrelatorStore(worker.topology.state / "correlator")
    store.sync()
    meta = store.meta
    positions = {
        source: msgspec.msgpack.decode(data, type=SourcePosition)
        for source, data in store.positions().items()
    }
    states = {
        key: msgspec.msgpack.decode(data, type=AlertState) for key, data in store.alerts().items()
    }
    superseded = not store.empty and meta.catalogue != inputs.hash
    if superseded and not worker.launch.flags.accept_catalogue:
        raise InvalidConfiguration(
            "start",
            [f"the state was built with catalogue {meta.catalogue:016x}, not {inputs.hash:016x}"],
            "put the old catalogue, sensors and physics back, or start with --accept-catalogue",
        )
    adopted = [
        OpenAlert(state.alert_id, state.low, state.high, state.tca_ns)
        for state in states.values()
        if not state.final and state.catalogue != inputs.hash
    ]
    core = Correlation(
        inputs.catalogue, worker.topology.physics, worker.topology.event_time,
        worker.topology.sources, inputs.hash, adopted,
    )  # fmt: skip
    core.positions.update({s: p for s, p in positions.items() if s in core.positions})
    core.alerts.update(states)
    core.closed_to = meta.closed_to
    if superseded:
        meta = _supersede(store, core, meta, inputs.hash)
        worker.event(
            "catalogue_accepted", catalogue=f"{inputs.hash:016x}", open_alerts=len(adopted)
        )
    else:
        for key, data in store.rows():
            core.restore(key, np.frombuffer(data, ROW))
    if store.empty:
        meta = _first_epoch(worker, store, inputs.hash)
    worker.event("recovered", path="local" if positions else "fresh", epoch=meta.epoch,
                 positions={s: p.position for s, p in core.positions.items()})  # fmt: skip
    return core, Checkpoints(store, meta, worker.clock)


def _first_epoch(worker: Worker, store: CorrelatorStore, catalogue: int) -> Meta:
    """A new store takes an epoch above every one that sink or subscriber may know."""
    known = max(worker.board.get(word) >> EPOCH_SHIFT for word in ("sink_pos", "sub_pos"))
    epoch = known + 1
    start = epoch << EPOCH_SHIFT
    meta = Meta(catalogue=catalogue, epoch=epoch, outbox_end=start, outbox_deleted=start)
    store.commit(Changes(meta=meta), lambda: None)
    return meta


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
