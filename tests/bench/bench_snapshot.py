"""What a snapshot of 100 MB does to the commits beside it: as it is taken, and at full speed.

One process commits to a store of that size at the nominal rate; another one copies it. The control,
a copy that neither waits nor syncs on the way, shows what the pace is good for.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import orjson

from sda_pipeline.clock import Clock
from sda_pipeline.limits import MIB, SECOND_NS, SNAPSHOT_BYTES_PER_S
from sda_pipeline.records.rows import ROW
from sda_pipeline.runtime.pace import Pace
from sda_pipeline.state import snapshot
from sda_pipeline.state.recovery import CORRELATOR, SNAPSHOTS
from sda_pipeline.state.snapshot import take_snapshot
from sda_pipeline.state.store import Changes, CorrelatorStore, Meta
from tests.bench.bench_figures import CHECKPOINT_P99_MS, Figure, spread
from tests.bench.bench_inputs import Say
from tests.process.site import ROOT

STATE_BYTES = 100 * MIB
FRAME_ROWS = 1000  # of one value in the store
SETTLE_S, APART_S, SNAPSHOTS_TAKEN = 2.0, 1.0, 4


def measure_snapshot(
    root: Path, clock: Clock, say: Say, taken: int = SNAPSHOTS_TAKEN
) -> tuple[list[Figure], dict[str, Any]]:
    """Commit times beside snapshots of each kind. Figures and details."""
    _fill(root)
    details = {"paced": _run(root, clock, say, taken, paced=True)}
    with patch.object(snapshot, "SNAPSHOT_SYNC_BYTES", sys.maxsize):
        details["at full speed"] = _run(root, clock, say, taken, paced=False)
    figures = []
    for kind, found in details.items():
        beside, alone = found["beside_ms"], found["alone_ms"]
        note = (
            f"{beside['count']} commits, {found['snapshots']} snapshots of {found['mib']:.0f} MiB "
            f"in {found['seconds']:.2f} s each; alone {alone['p99']:.2f} ms"
        )
        bar = CHECKPOINT_P99_MS if kind == "paced" else None
        name = f"commit p99 beside a snapshot {kind}"
        figures.append(Figure(name, beside["p99"], "ms", at_most=bar, note=note))
    return figures, details


def _fill(root: Path) -> None:
    root.mkdir()
    store = CorrelatorStore(root / CORRELATOR)
    rng = np.random.default_rng(1)
    for number in range(STATE_BYTES // (FRAME_ROWS * ROW.itemsize)):
        rows = [(("isl", number), rng.bytes(FRAME_ROWS * ROW.itemsize))]
        store.commit(Changes(rows=rows, meta=Meta(epoch=1, catalogue=1)), lambda: None)
    store.close()


def _run(root: Path, clock: Clock, say: Say, taken: int, *, paced: bool) -> dict[str, Any]:
    """Some snapshots beside commits; what those took, in and out of them."""
    seconds = SETTLE_S + taken * (APART_S + 2.0 * STATE_BYTES / SNAPSHOT_BYTES_PER_S)
    command = [sys.executable, "-m", "tests.bench.bench_commits", str(root), str(seconds)]
    spans = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        clock.sleep(SETTLE_S)
        for _ in range(taken):
            clock.sleep(APART_S)
            spans.append(_take(root, clock, paced=paced))
        out, _ = child.communicate()
    commits = [(at, took / 1e6) for at, took in orjson.loads(out)]
    since = commits[0][0] + SECOND_NS
    beside = [ms for at, ms in commits if any(a <= at <= b for a, b, _ in spans)]
    quiet = [ms for at, ms in commits if since < at and not any(a <= at <= b for a, b, _ in spans)]
    say(f"{len(beside)} commits beside {taken} snapshots, {len(quiet)} between them")
    return {
        "beside_ms": spread(beside),
        "alone_ms": spread(quiet),
        "snapshots": taken,
        "mib": spans[0][2] / MIB,
        "seconds": sum(b - a for a, b, _ in spans) / taken / SECOND_NS,
    }


def _take(root: Path, clock: Clock, *, paced: bool) -> tuple[int, int, int]:
    """One snapshot, as the replicator takes it: when it began and ended, and its bytes."""
    store = CorrelatorStore(root / CORRELATOR, readonly=True)
    began = clock.monotonic_ns()
    pace = Pace(clock, SNAPSHOT_BYTES_PER_S, lambda: not paced)
    manifest = take_snapshot(store, root / SNAPSHOTS, clock.wall_ns(), lambda _: None, pace=pace)
    ended = clock.monotonic_ns()
    store.close()
    snapshot.prune(root / SNAPSHOTS, 1)
    return began, ended, manifest.size_bytes
