"""Between the correlator's core and its store: one transaction per step. No decisions on rows; the
opening is ``correlator_open.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import numpy as np

from operators.core.correlation import Correlation
from operators.core.step_effects import Effects, RowKey
from sda_pipeline.clock import Clock
from sda_pipeline.limits import MIB
from sda_pipeline.records.alert import Entry, entry_of_closed, entry_of_records
from sda_pipeline.state.store import Changes, CorrelatorStore, Meta

_encode = msgspec.msgpack.encode


class Checkpoints:
    """The store, the outbox counter and the pauses its commits cause."""

    def __init__(
        self, store: CorrelatorStore, meta: Meta, clock: Clock,
        dlq_done: Callable[[], dict[str, tuple[int, int]]] = dict,
    ) -> None:  # fmt: skip
        self._store, self._clock, self._dlq_done = store, clock, dlq_done
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
            self.meta, outbox_end=end, outbox_deleted=gone, closed_to=closed_to,
            dlq_done=self.meta.dlq_done | self._dlq_done(),
        )  # fmt: skip
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
        return numbered(effects.emitted, self.meta.outbox_end)

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

    def stored_rows(self) -> Iterator[tuple[RowKey, bytes]]:
        """Every retained frame's rows, as last committed."""
        return self._store.rows()

    def close(self) -> None:
        """Write down how far the DLQ has come, for an audit, and close."""
        done = self.meta.dlq_done | self._dlq_done()
        if done != self.meta.dlq_done:
            meta = msgspec.structs.replace(self.meta, dlq_done=done)
            self._store.commit(Changes(meta=meta), lambda: None)
        self._store.close()


def numbered(emitted: Iterable[list[dict[str, Any]] | int], end: int) -> list[Entry]:
    """Emissions as outbox entries at the positions that follow ``end``."""
    return [
        entry_of_closed(position, each)
        if isinstance(each, int)
        else entry_of_records(position, each)
        for position, each in enumerate(emitted, end + 1)
    ]
