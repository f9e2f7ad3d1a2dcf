"""Which segments of a source's log may go: who holds them, what beats whom, when that is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from operators.log_retention import LogRetention
from sda_pipeline.clock import ManualClock
from sda_pipeline.limits import SECOND_NS, TIME_END_NS
from sda_pipeline.topology import S3Settings
from tests.unit.sink_rig import Words

LOG_ID = 7
ALL_DONE = {
    "applied": 100, "snapshot": 100, "snapshot_new": 100, "dlq_done": 100, "dlq_log": LOG_ID,
    "remote": 100, "remote_new": 100, "remote_log": LOG_ID,
}  # fmt: skip


class FakeLog:
    """A log of one position a segment; each holds one byte and is as old as its position."""

    def __init__(self, end: int) -> None:
        self.first, self.end, self.log_id = 1, end, LOG_ID

    def delete_below(self, position: int, older_than_ns: int, keep_bytes: int = 0) -> int:
        first = self.first
        while (
            self.first < min(position + 1, self.end)
            and self.first * SECOND_NS < older_than_ns
            and self.end - self.first + 1 > keep_bytes
        ):
            self.first += 1
        return self.first - first


class Rig:
    """One source's retention; everything is older than ``log_retention`` and may go at first."""

    def __init__(self, *, s3: bool, bytes_max: int = 10**6, **words: int) -> None:
        self.log, self.events = FakeLog(200), list[tuple[str, dict[str, Any]]]()
        self.board = Words({f"radar.{word}": value for word, value in (ALL_DONE | words).items()})
        self.board["remote_seq"] = 1
        topology = SimpleNamespace(
            s3=S3Settings("bucket") if s3 else None, log_retention_s=10.0, log_bytes_max=bytes_max
        )
        worker: Any = SimpleNamespace(
            name="radar", board=self.board, topology=topology,
            clock=ManualClock(10_000 * SECOND_NS, 0),
            event=lambda event, **fields: self.events.append((event, fields)),
        )  # fmt: skip
        self.retention = LogRetention(worker, self.log)  # type: ignore[arg-type]

    def sweep(self, **words: int) -> int:
        for word, value in words.items():
            self.board[f"radar.{word}"] = value
        self.retention.sweep()
        return self.log.first

    def told(self) -> list[str]:
        return [event for event, _ in self.events if event.startswith("remote_horizon")]


@pytest.mark.parametrize("word", ["applied", "dlq_done", "snapshot", "snapshot_new", "remote"])
def test_nobody_loses_what_he_needs(word: str) -> None:
    assert Rig(s3=True, **{word: 40}).sweep() == 41
    assert Rig(s3=True).sweep() == 101


def test_without_a_remote_nobody_waits_for_one() -> None:
    assert Rig(s3=False, remote=0).sweep() == 101


def test_while_the_remote_is_unknown_the_log_is_kept() -> None:
    rig = Rig(s3=True, remote=0, remote_new=0)
    rig.board["remote_seq"] = 0
    assert rig.sweep() == 1
    assert rig.told() == []


def test_what_is_said_of_another_log_lets_nothing_go() -> None:
    rig = Rig(s3=True, remote_log=LOG_ID + 1)
    assert rig.sweep() == 1
    rig.log.first = 90  # it was made anew behind the position 89
    rig.sweep(remote=50, remote_new=50)
    assert rig.told() == []
    rig.sweep(remote_log=LOG_ID)
    assert rig.told() == ["remote_horizon_lost"]


@pytest.mark.parametrize("word", ["applied", "dlq_done", "snapshot_new"])
def test_the_bound_beats_the_remote_and_older_snapshots_never_these(word: str) -> None:
    rig = Rig(s3=True, bytes_max=1, snapshot=5, remote=5, remote_new=20, **{word: 40})
    assert rig.sweep() == 41
    assert rig.told() == ["remote_horizon_lost"]
    assert rig.board["radar.horizon_lost"] == 41


def test_a_bound_that_is_not_reached_beats_nothing() -> None:
    assert Rig(s3=True, bytes_max=200, remote=5).sweep() == 6


def test_the_horizon_is_lost_only_above_the_newest_remote_snapshot() -> None:
    rig = Rig(s3=True, bytes_max=1, remote=5, remote_new=60, snapshot_new=60)
    assert rig.sweep() == 61
    assert rig.told() == []
    assert rig.board["radar.horizon_lost"] == 0


def test_it_is_told_once_and_told_when_it_is_back() -> None:
    rig = Rig(s3=True, bytes_max=1, remote=5, remote_new=20, snapshot_new=40)
    rig.sweep()
    rig.sweep()
    assert rig.told() == ["remote_horizon_lost"]
    rig.sweep(remote_new=40)
    assert rig.told() == ["remote_horizon_lost", "remote_horizon_back"]
    assert rig.board["radar.horizon_lost"] == 0


def test_a_deletion_tells_though_the_remote_was_never_seen() -> None:
    rig = Rig(s3=True, bytes_max=1, remote=0, remote_new=0)
    rig.board["remote_seq"] = 0
    rig.sweep()
    assert rig.told() == ["remote_horizon_lost"]


def test_the_age_holds_below_the_bound() -> None:
    rig = Rig(s3=True)
    rig.retention.worker.clock = ManualClock(60 * SECOND_NS, 0)
    assert rig.sweep() == 50  # those below are older than 10 s
    assert rig.log.end * SECOND_NS < TIME_END_NS
