"""``python -m tests.bench.bench_commits STATE SECONDS``: commit beside whatever else goes on.

A process of its own, as the correlator is. Prints one JSON line: [[monotonic ns, ns taken], ...].
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import orjson

from sda_pipeline.clock import SystemClock
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.alert import EPOCH_SHIFT, KIND_RECORDS, Entry
from sda_pipeline.records.rows import ROW
from sda_pipeline.state.recovery import CORRELATOR
from sda_pipeline.state.store import Changes, CorrelatorStore

EVERY_S = 0.025  # the nominal rate makes about 40 commits a second
ROWS, KEPT = 4, 200  # retained rows of one commit, and commits whose rows are retained
FIRST = 1 << 40  # above every position that is there


def changes(number: int, store: CorrelatorStore, rng: np.random.Generator) -> Changes:
    """About what one step of the correlator changes."""
    end = (store.meta.epoch << EPOCH_SHIFT) + number
    position = msgspec.msgpack.encode({"log_id": 7, "position": FIRST + number})
    return Changes(
        rows=[(("radar", FIRST + number), rng.bytes(ROW.itemsize * ROWS))],
        rows_gone=[("radar", FIRST + number - KEPT)] if number > KEPT else [],
        positions=dict.fromkeys(("radar", "optical", "isl"), position),
        alerts={f"alert-{number % 50}": rng.bytes(1200)},
        outbox=[Entry(end, KIND_RECORDS, 1, rng.bytes(900))],
        outbox_gone_through=end - 4,
        meta=msgspec.structs.replace(store.meta, outbox_end=end),
    )


def main(state: Path, seconds: float) -> None:
    """Commit at the rate for so long."""
    clock, rng = SystemClock(), np.random.default_rng(2)
    store = CorrelatorStore(state / CORRELATOR)
    until = clock.monotonic_ns() + round(seconds * SECOND_NS)
    taken: list[tuple[int, int]] = []
    while (began := clock.monotonic_ns()) < until:
        wanted = changes(len(taken) + 1, store, rng)
        before = clock.monotonic_ns()
        store.commit(wanted, lambda: None)
        took = clock.monotonic_ns() - before
        taken.append((before, took))
        clock.sleep(max(0.0, EVERY_S - (clock.monotonic_ns() - began) / SECOND_NS))
    store.close()
    sys.stdout.buffer.write(orjson.dumps(taken))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
