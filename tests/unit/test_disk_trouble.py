"""A disk that is nearly full, full or failing: who pauses, who stops, who goes on, what is said."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from operators.replicator import _Replicator
from sda_pipeline.clock import ManualClock
from sda_pipeline.errors import ExitCode, SdaError, disk_fault
from sda_pipeline.limits import MIB, SECOND_NS
from sda_pipeline.runtime import worker as worker_module
from sda_pipeline.runtime.disk import DiskReserve
from sda_pipeline.state.recovery import CORRELATOR, SNAPSHOTS
from sda_pipeline.state.snapshot import manifests
from sda_pipeline.state.store import CorrelatorStore
from tests.unit.sink_rig import Words
from tests.unit.store_rig import data_file, fill, flip, step

Events = list[tuple[str, dict[str, Any]]]


class FakeDisk:
    """Free bytes as statvfs tells them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free, self.looks = 0, 0
        monkeypatch.setattr(os, "statvfs", self.stat)

    def stat(self, _: Path) -> SimpleNamespace:
        self.looks += 1
        return SimpleNamespace(f_bavail=self.free // 512, f_frsize=512)


def test_the_reserve_pauses_and_comes_back_half_again_above_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk, events = FakeDisk(monkeypatch), Events()
    reserve = DiskReserve(Path("/"), 100 * MIB, lambda event, **f: events.append((event, f)))
    enough = []
    for second, free in enumerate((200, 100, 99, 149, 150, 100, 99)):
        disk.free = free * MIB
        enough.append(reserve.enough(second * SECOND_NS))
    assert enough == [True, True, False, False, True, True, False]
    names = ["disk_reserve_reached", "disk_reserve_back", "disk_reserve_reached"]
    assert [event for event, _ in events] == names
    assert events[0][1] == {"free_bytes": 99 * MIB, "reserve_bytes": 100 * MIB}


def test_it_looks_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FakeDisk(monkeypatch)
    reserve = DiskReserve(Path("/"), 1, lambda *_, **__: None)
    for tenth in range(21):
        reserve.enough(tenth * SECOND_NS // 10)
    assert disk.looks == 3


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 8,
         "cannot go on as radar: No space left on device; free some space and start again"),
        (OSError(errno.EIO, "Input/output error", "x.log"), 8,
         "cannot go on as radar: x.log: Input/output error; check the disk"),
        (OSError(errno.EROFS, "Read-only file system"), 8, "make the file system writable"),
        (SdaError("do it", "it is wrong", "do that"), 1, "cannot do it: it is wrong; do that"),
    ],
)  # fmt: skip
def test_a_disk_that_fails_is_one_line_and_no_restart(
    error: Exception, code: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert worker_module._report(ManualClock(), "radar", error) == code
    told = orjson.loads(capfd.readouterr().err)
    assert said in told["error"]
    assert told["event"] == "failed"
    assert "traceback" not in told


def test_any_other_error_is_a_crash_and_a_restart(capfd: pytest.CaptureFixture[str]) -> None:
    assert disk_fault("go on", FileNotFoundError(errno.ENOENT, "gone")) is None
    code = worker_module._report(ManualClock(), "radar", FileNotFoundError(errno.ENOENT, "gone"))
    assert code == ExitCode.INTERNAL
    assert orjson.loads(capfd.readouterr().err)["event"] == "crashed"


def test_a_log_line_that_finds_no_room_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    worker_module.write_event(ManualClock(), "radar", "ready", {})


class Rig:
    """A replicator beside a store."""

    def __init__(self, state: Path) -> None:
        self.events: Events = []
        self.store = CorrelatorStore(state / CORRELATOR)
        fill(self.store, 1, 3)
        self.store.close()  # LMDB: one handle in a process
        topology = SimpleNamespace(state=state, disk_reserve_bytes=MIB, sources=("radar",), s3=None)
        worker: Any = SimpleNamespace(
            topology=topology, board=Words({"radar.applied": 3}), clock=ManualClock(5, 5),
            event=lambda event, **f: self.events.append((event, f)), fail=lambda _: None,
            beat=lambda _: None, stopping=False,
        )  # fmt: skip
        self.worker = worker
        self.replicator = _Replicator(worker)


def test_a_snapshot_that_fails_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "EIO")))
        rig.replicator.take()
    assert [event for event, _ in rig.events] == ["snapshot_failed"]
    assert list((tmp_path / SNAPSHOTS).iterdir()) == []
    assert rig.replicator.due()
    rig.replicator.take()
    assert [event for event, _ in rig.events] == ["snapshot_failed", "snapshot"]
    assert not rig.replicator.due()
    assert rig.worker.board["radar.snapshot"] == 3
    rig.replicator.store.close()


def test_no_snapshot_is_taken_out_of_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path)
    disk = FakeDisk(monkeypatch)
    disk.free = MIB // 2
    assert not rig.replicator.due()
    assert [event for event, _ in rig.events] == ["disk_reserve_reached"]
    rig.replicator.store.close()


def test_a_damaged_store_is_told_and_leaves_the_good_snapshots(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.replicator.take()
    rig.replicator.store.close()
    flip(data_file(tmp_path), step(3).rows[0][1][:64], at=30)
    rig.replicator.store = rig.replicator.open_store()
    rig.replicator.take()
    assert [event for event, _ in rig.events] == ["snapshot", "snapshot_failed"]
    assert "does not match its CRC" in rig.events[1][1]["why"]
    assert len(manifests(tmp_path / SNAPSHOTS)) == 1
    rig.replicator.store.close()


def test_after_a_recovery_the_new_store_is_copied_not_the_one_aside(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (tmp_path / CORRELATOR).rename(tmp_path / "aside")
    store = CorrelatorStore(tmp_path / "other")
    fill(store, 1, 8)
    store.close()
    (tmp_path / "other").rename(tmp_path / CORRELATOR)
    rig.replicator.take()
    assert manifests(tmp_path / SNAPSHOTS)[0].positions == {"radar": 8}
    rig.replicator.store.close()
