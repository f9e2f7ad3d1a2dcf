"""A large snapshot is written at a bounded rate, synced by pieces, and says that it lives."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from operators import replicator
from sda_pipeline.clock import ManualClock
from sda_pipeline.limits import MIB, SECOND_NS, SNAPSHOT_BYTES_PER_S, SNAPSHOT_SYNC_BYTES
from sda_pipeline.state import recovery
from sda_pipeline.state.snapshot import CHUNK_BYTES, manifests
from sda_pipeline.state.store import Changes, CorrelatorStore, Meta
from sda_pipeline.vocabulary import Step
from tests.unit.sink_rig import Words

SIZE = 11 * MIB  # of retained rows: the copy has a little more


class FakeWorker:
    """What the replicator needs of a worker; remembers when it beat."""

    name = "replicator"
    stopping = False

    def __init__(self, state: Path) -> None:
        self.clock, self.board = ManualClock(), Words()
        self.topology = SimpleNamespace(
            state=state, sources=("radar",), s3=None, disk_reserve_bytes=0
        )
        self.beats: list[int] = []
        self.hits: list[str] = []

    def beat(self, step: Step) -> None:
        assert step is Step.SNAPSHOT
        self.beats.append(self.clock.monotonic_ns())

    def fail(self, point: str) -> None:
        self.hits.append(point)

    def event(self, event: str, **fields: Any) -> None:
        assert event == "snapshot", fields


@pytest.fixture
def worker(tmp_path: Path) -> FakeWorker:
    store = CorrelatorStore(tmp_path / recovery.CORRELATOR)
    rng = np.random.default_rng(1)
    for number in range(SIZE // MIB):
        rows = [(("radar", number), rng.bytes(MIB))]
        store.commit(Changes(rows=rows, meta=Meta(epoch=1)), lambda: None)
    store.close()
    return FakeWorker(tmp_path)


def take(worker: FakeWorker) -> int:
    """Take one; its size in bytes."""
    taken = replicator._Replicator(worker)  # type: ignore[arg-type]
    taken.take()
    taken.store.close()
    (manifest,) = manifests(worker.topology.state / recovery.SNAPSHOTS)
    return manifest.size_bytes


def test_it_is_written_at_a_bounded_rate(worker: FakeWorker) -> None:
    size = take(worker)
    assert size > SIZE
    took_s = worker.clock.monotonic_ns() / SECOND_NS
    assert took_s == pytest.approx(size / SNAPSHOT_BYTES_PER_S, rel=0.01)


def test_no_more_than_a_piece_waits_for_the_disk(
    worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fdatasync

    def fdatasync(fd: int) -> None:
        real(fd)
        synced.append(os.fstat(fd).st_size)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    size = take(worker)
    assert synced
    ends = np.diff([0, *synced, size])
    assert ends.max() < SNAPSHOT_SYNC_BYTES + CHUNK_BYTES


def test_it_says_that_it_lives_between_two_pieces(worker: FakeWorker) -> None:
    size = take(worker)
    pieces = -(-size // CHUNK_BYTES)
    assert worker.hits.count("inside_write") == pieces
    gaps = np.diff(sorted({0, *worker.beats, worker.clock.monotonic_ns()}))
    assert gaps.max() <= 1.01 * CHUNK_BYTES / SNAPSHOT_BYTES_PER_S * SECOND_NS


def test_one_that_is_told_to_stop_does_not_dawdle(worker: FakeWorker) -> None:
    worker.stopping = True
    take(worker)
    assert worker.clock.monotonic_ns() == 0
