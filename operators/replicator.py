"""Snapshots the correlator's store at a cadence, in its own process so that it can never pause a
commit.
"""

from __future__ import annotations

from sda_pipeline.limits import SECOND_NS, SNAPSHOTS_KEPT
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.state.snapshot import Manifest, manifests, prune, take_snapshot
from sda_pipeline.state.store import CorrelatorStore
from sda_pipeline.vocabulary import Step

WAIT_S = 1.0


def run(worker: Worker) -> None:
    """Take a snapshot whenever the cadence is due and the store has changed, until told to stop."""
    worker.beat(Step.RECOVER)
    topology = worker.topology
    directory = topology.state / "snapshots"
    store = CorrelatorStore(topology.state / "correlator", readonly=True)
    kept = manifests(directory)
    publish_words(worker, kept)
    worker.ready()
    seen = kept[0].positions if kept else dict.fromkeys(topology.sources, 0)
    every_ns = round(topology.snapshot_every_s * SECOND_NS)
    due = worker.clock.monotonic_ns() + every_ns
    while not worker.stopping:
        if worker.clock.monotonic_ns() < due:
            left_s = (due - worker.clock.monotonic_ns()) / SECOND_NS
            worker.wait(min(WAIT_S, max(0.0, left_s)))
            continue
        due = worker.clock.monotonic_ns() + every_ns
        applied = {s: worker.board.get(f"{s}.applied") for s in topology.sources}
        if applied == seen:
            continue
        worker.beat(Step.SNAPSHOT)
        store.env.reader_check()
        manifest = take_snapshot(store, directory, worker.clock.wall_ns(), worker.fail)
        kept = prune(directory, SNAPSHOTS_KEPT)
        publish_words(worker, kept)
        seen = manifest.positions
        worker.event("snapshot", sequence=manifest.sequence, size_bytes=manifest.size_bytes)
    store.close()


def publish_words(worker: Worker, kept: list[Manifest]) -> None:
    """Tell which snapshot is newest, and from where on the oldest one needs each source's log."""
    for source in worker.topology.sources:
        oldest = min((m.positions.get(source, 0) for m in kept), default=0)
        worker.board.set(f"{source}.snapshot", oldest)
    if kept:
        worker.board.set("snapshot_seq", kept[0].sequence)
        worker.board.set("snapshot_at", kept[0].created_ns)
