"""The replicator when an epoch is begun: which snapshots it then knows, offers and wants."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from operators import replicator
from operators.replicator import _Replicator
from operators.uploader import Uploader
from sda_pipeline.clock import ManualClock
from sda_pipeline.state.manifest import Manifest
from sda_pipeline.state.recovery import CORRELATOR
from sda_pipeline.state.snapshot import set_snapshot_aside
from sda_pipeline.state.store import Changes, CorrelatorStore
from tests.unit.sink_rig import Words
from tests.unit.store_rig import EPOCH
from tests.unit.test_remote import Rig


class Beside:
    """A replicator without its uploader's thread, beside a store of twelve commits."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rig = Rig(root)
        self.board = Words({"epoch": EPOCH, "radar.applied": 10})
        self.offered: list[Manifest] = []
        monkeypatch.setattr(Uploader, "start", lambda _: None)
        monkeypatch.setattr(Uploader, "offer", lambda _, manifest: self.offered.append(manifest))
        monkeypatch.setattr(replicator, "connect", lambda _: self.rig.remote)
        topology = SimpleNamespace(
            state=self.rig.state, sources=("radar",), disk_reserve_bytes=0,
            s3=SimpleNamespace(keep=3),
        )  # fmt: skip
        self.worker: Any = SimpleNamespace(
            topology=topology, board=self.board, clock=ManualClock(7, 7), stopping=False,
            beat=lambda _: None, fail=lambda _: None, event=lambda *_, **__: None,
            wait=lambda *_: None,
        )  # fmt: skip

    def begin_epoch(self) -> None:
        """As the correlator does: in its store, then on the board."""
        store = CorrelatorStore(self.rig.state / CORRELATOR)
        meta = msgspec.structs.replace(store.meta, epoch=EPOCH + 1)
        store.commit(Changes(meta=meta), lambda: None)
        store.close()
        self.board["epoch"] = EPOCH + 1


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Beside:
    return Beside(tmp_path, monkeypatch)


def test_the_newest_of_this_epoch_is_offered_and_no_other_is_wanted(beside: Beside) -> None:
    made = _Replicator(beside.worker)
    assert beside.offered == [beside.rig.local[2]]
    assert not made.due()
    made.turn(0.0)
    assert beside.offered == [beside.rig.local[2]]


def test_one_of_an_epoch_that_is_over_is_not_offered_and_another_is_wanted(beside: Beside) -> None:
    # The remote holds a later one of ours, which a recovery could not use or did not ask for.
    beside.begin_epoch()
    made = _Replicator(beside.worker)
    assert beside.offered == []
    assert made.due()
    made.take()
    assert [manifest.epoch for manifest in beside.offered] == [EPOCH + 1]
    beside.board["radar.applied"] = 12  # as the store says
    made.turn(0.0)
    assert not made.due(), "once"


@pytest.mark.parametrize("s3", [True, False], ids=["s3", "no s3"])
def test_a_snapshot_that_a_recovery_set_aside_counts_no_more(s3: bool, beside: Beside) -> None:
    if not s3:
        beside.worker.topology.s3 = None
    made = _Replicator(beside.worker)
    assert (beside.board["radar.snapshot"], beside.board["radar.snapshot_new"]) == (4, 10)
    set_snapshot_aside(beside.rig.directory, beside.rig.local[2])
    made.store.close()  # one process cannot open it twice
    beside.begin_epoch()  # at the same position
    made.store = made.open_store()
    made.turn(0.0)
    assert beside.board["radar.snapshot_new"] == 8, "the newest that is there needs the log"
    assert beside.board["snapshot_seq"] == beside.rig.local[1].sequence
    assert made.due()
    made.take()
    assert beside.board["radar.snapshot_new"] == 12
