"""Snapshots the correlator's store at a cadence, in its own process so that it can never pause a
commit. Their upload is beside it, in a thread (uploader.py): it can never delay the cadence.
"""

from __future__ import annotations

from operators.remote_horizon import RemoteHorizon, chance, connect
from operators.uploader import Uploader
from sda_pipeline.errors import SdaError, StateCorrupt, Unreachable
from sda_pipeline.limits import SECOND_NS, SNAPSHOT_BYTES_PER_S, SNAPSHOTS_KEPT
from sda_pipeline.runtime.disk import DiskReserve
from sda_pipeline.runtime.pace import Pace
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.state.manifest import Manifest
from sda_pipeline.state.recovery import CORRELATOR, SNAPSHOTS
from sda_pipeline.state.snapshot import every_manifest, manifests, prune, take_snapshot
from sda_pipeline.state.store import CorrelatorStore
from sda_pipeline.vocabulary import Step

WAIT_S = 1.0


class _Replicator:
    """What it has open and has done."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.directory = worker.topology.state / SNAPSHOTS
        self.store = self.open_store()
        reserve = worker.topology.disk_reserve_bytes
        self.disk = DiskReserve(worker.topology.state, reserve, worker.event)
        for found in every_manifest(self.directory):
            if not isinstance(found, Manifest):
                worker.event("snapshot_damaged", path=str(found.path), why=found.why)
        self.again = False  # one is wanted though the store has not changed
        self.remote = self.open_remote()
        self.look()

    def look(self) -> None:
        """Which snapshots there are: those that a recovery could not use it has set aside.

        One of an epoch that is over is not offered: the remote may hold a later one of ours, for
        which it would be a rival's. Another is wanted.
        """
        self.epoch = self.worker.board.get("epoch")
        self.kept = manifests(self.directory)
        self.seen = self.kept[0].positions if self.kept else {}  # a source not in it stands at 0
        if self.kept and self.kept[0].epoch < self.epoch:
            self.again = True
        elif self.kept and self.remote is not None:
            self.remote.uploader.offer(self.kept[0])
        self.publish_words()

    def open_remote(self) -> RemoteHorizon | None:
        """The remote copy, begun; None where the topology has none."""
        worker = self.worker
        topology, clock = worker.topology, worker.clock
        if topology.s3 is None:
            return None
        uploader = Uploader(lambda: connect(topology), self.directory, clock, worker.fail, chance)
        return RemoteHorizon(worker, uploader)

    def open_store(self) -> CorrelatorStore:
        """The correlator's store, to read beside it.

        SdaError when it cannot be read: that alone must not stop the tree, the correlator may be
        about to recover it.
        """
        try:
            return CorrelatorStore(self.worker.topology.state / CORRELATOR, readonly=True)
        except (StateCorrupt, Unreachable) as error:
            raise SdaError(error.action, error.why, "it is opened again after a restart") from error

    def due(self) -> bool:
        """Whether the store has changed, and a copy of it leaves the disk its reserve."""
        worker = self.worker
        changed = any(
            worker.board.get(f"{source}.applied") != self.seen.get(source, 0)
            for source in worker.topology.sources
        )
        return (changed or self.again) and self.disk.enough(worker.clock.monotonic_ns())

    def take(self) -> None:
        """One snapshot; what keeps it from being taken is told, and tried again a cadence later."""
        worker = self.worker
        try:
            if self.store.replaced:  # the correlator has recovered: what is open here is aside
                self.store.close()
                self.store = self.open_store()
            self.store.env.reader_check()
            taken = self.remote.taken.values() if self.remote is not None else ()
            pace = Pace(worker.clock, SNAPSHOT_BYTES_PER_S, lambda: worker.stopping)
            manifest = take_snapshot(
                self.store, self.directory, worker.clock.wall_ns(), self.hit, taken, pace
            )
            self.kept = prune(self.directory, SNAPSHOTS_KEPT)
        except (SdaError, OSError) as error:
            worker.event("snapshot_failed", why=str(error))
            return
        self.publish_words()
        self.seen, self.again = manifest.positions, False
        if self.remote is not None:
            self.remote.uploader.offer(manifest)
        worker.event("snapshot", sequence=manifest.sequence, size_bytes=manifest.size_bytes)

    def hit(self, point: str) -> None:
        """Between two steps, and two pieces, of a snapshot."""
        self.worker.beat(Step.SNAPSHOT)
        self.worker.fail(point)

    def publish_words(self) -> None:
        """Tell which snapshot is newest, and from where on the oldest one needs each log."""
        board = self.worker.board
        for source in self.worker.topology.sources:
            positions = [manifest.positions.get(source, 0) for manifest in self.kept]
            board.set(f"{source}.snapshot", min(positions, default=0))
            board.set(f"{source}.snapshot_new", positions[0] if positions else 0)
        if self.kept:
            board.set("snapshot_seq", self.kept[0].sequence)
            board.set("snapshot_at", self.kept[0].created_ns)

    def turn(self, patience_s: float) -> None:
        """Wait, and take what the uploader and a recovery have to tell."""
        remote = self.remote
        self.worker.wait(patience_s, [remote.uploader.wake_fd] if remote is not None else ())
        if remote is not None:
            self.again |= remote.turn()
        if self.worker.board.get("epoch") != self.epoch:
            self.look()


def run(worker: Worker) -> None:
    """Take a snapshot whenever the cadence is due and the store has changed, until told to stop."""
    worker.beat(Step.RECOVER)
    replicator = _Replicator(worker)
    worker.ready()
    every_ns = round(worker.topology.snapshot_every_s * SECOND_NS)
    due = worker.clock.monotonic_ns() + every_ns
    while not worker.stopping:
        if worker.clock.monotonic_ns() < due:
            left_s = (due - worker.clock.monotonic_ns()) / SECOND_NS
            replicator.turn(min(WAIT_S, max(0.0, left_s)))
            continue
        due = worker.clock.monotonic_ns() + every_ns
        if replicator.due():
            worker.beat(Step.SNAPSHOT)
            replicator.take()
    replicator.store.close()
