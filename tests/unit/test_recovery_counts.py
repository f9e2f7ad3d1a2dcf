"""How often each rung served: the count outlives supervisors, its damage stops nothing."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from operators import recovery_count
from sda_pipeline.state.recovery import CORRELATOR, SNAPSHOTS, Rung
from sda_pipeline.state.recovery_counts import NAME, read_recoveries, write_recoveries
from sda_pipeline.state.snapshot import take_snapshot
from sda_pipeline.state.store import CorrelatorStore
from tests.unit.sink_rig import Words
from tests.unit.test_correlator_open import FakeWorker, inputs, open_at, open_checkpoints


def counted(board: Words) -> dict[str, int]:
    """What the board shows."""
    return {rung.value: n for rung in Rung if (n := board[f"recovered_{rung}"])}


def lose_store(state: Path) -> None:
    """Keep a snapshot of it."""
    store = CorrelatorStore(state / CORRELATOR)
    take_snapshot(store, state / SNAPSHOTS, 0, lambda _: None)
    store.close()
    shutil.rmtree(state / CORRELATOR)


def test_the_counts_of_earlier_supervisors_go_on(tmp_path: Path) -> None:
    for _ in range(3):
        open_at(tmp_path, Words())
    lose_store(tmp_path)
    board = Words()  # of the next supervisor
    open_at(tmp_path, board)
    assert counted(board) == read_recoveries(tmp_path) == {"fresh": 1, "local": 2, "snapshot": 1}


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("point", ["recovery_copied", "recovery_installed", "recovery_epoch"])
def test_a_recovery_that_is_killed_is_counted_once_as_what_it_was(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_at(tmp_path, Words())
    lose_store(tmp_path)

    def die(_: FakeWorker, hit: str) -> None:
        if hit == point:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(FakeWorker, "fail", die)
        with pytest.raises(Killed):
            open_checkpoints(FakeWorker(tmp_path, Words()), inputs())  # type: ignore[arg-type]
    done = point == "recovery_epoch"  # and counted before it was killed
    opened = open_at(tmp_path, Words())
    told = [fields["path"] for event, fields in opened.worker.events if event == "recovered"]
    assert told == ["local" if done else "snapshot"]
    wanted = {"fresh": 1, "snapshot": 1} | ({"local": 1} if done else {})
    assert read_recoveries(tmp_path) == wanted
    open_at(tmp_path, Words())
    assert read_recoveries(tmp_path) == wanted | {"local": 1 + done}


@pytest.mark.parametrize("content", [b"", b"{}", b'{"local":5}\n00000000\n', b"\xff\n1"])
def test_a_damaged_count_begins_anew_and_is_told(content: bytes, tmp_path: Path) -> None:
    open_at(tmp_path, Words())
    (tmp_path / NAME).write_bytes(content)
    board = Words()
    opened = open_at(tmp_path, board)
    assert counted(board) == read_recoveries(tmp_path) == {"local": 1}
    (told,) = [fields for event, fields in opened.worker.events if event == "recovery_not_counted"]
    assert NAME in told["why"]


def test_a_count_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path, __: dict[str, int]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(recovery_count, "write_recoveries", full)
    board = Words()
    opened = open_at(tmp_path, board)
    assert counted(board) == {"fresh": 1}
    assert [event for event, _ in opened.worker.events] == ["recovery_not_counted", "recovered"]


def test_a_count_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    write_recoveries(tmp_path, {"local": 7})
    assert synced == [f"{NAME}.tmp", tmp_path.name]
    assert read_recoveries(tmp_path) == {"local": 7}
