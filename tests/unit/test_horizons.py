"""Two durability horizons per source, and what ``wait --remote-durable`` waits for."""

from __future__ import annotations

from collections import defaultdict

import pytest

from sda_pipeline.errors import ExitCode
from sda_pipeline.limits import SECOND_NS, TIME_END_NS
from sda_pipeline.topology import S3Settings
from sda_pipeline.vocabulary import BreakerState, RemoteFault
from supervisor import horizons
from supervisor.cli_wait import _too_late

LOG, EPOCH = 4, 3
T0 = 1_795_435_200 * SECOND_NS
S3 = S3Settings("bucket")


def words(**of_radar: int) -> dict[str, int]:
    """A board: the remote speaks of the log that is there, by a snapshot of this epoch."""
    whole = {"log_id": LOG, "ready": 1, "remote_log": LOG, "remote_by": EPOCH << 32 | 1} | of_radar
    found: dict[str, int] = defaultdict(int, {f"radar.{word}": v for word, v in whole.items()})
    found["epoch"] = EPOCH
    return found


def test_both_horizons_in_positions_and_event_time() -> None:
    board = words(log_end=9, watermark=T0 + SECOND_NS, snapshot_new=7, remote_new=5, remote=2,
                  remote_time=T0)  # fmt: skip
    assert horizons.of_source("radar", board, S3) == {
        "local": {"position": 9, "event_time": "2026-11-23T12:00:01.000Z", "snapshot": 7},
        "remote": {"position": 5, "event_time": "2026-11-23T12:00:00.000Z", "oldest": 2,
                   "behind": 4, "lost_before": None},
    }  # fmt: skip


def test_without_a_remote_there_is_one() -> None:
    assert horizons.of_source("radar", words(log_end=9), None)["remote"] is None
    assert horizons.of_remote(words(), None) is None
    assert "none configured" in horizons.remote_lines(None)[0]


@pytest.mark.parametrize("word", [0, TIME_END_NS, 2**64 - 5])
def test_no_time_is_no_time(word: int) -> None:
    assert horizons.time_of(word) is None


def test_a_lost_horizon_shows() -> None:
    board = words(log_end=90, remote_new=5, horizon_lost=40)
    assert horizons.of_source("radar", board, S3)["remote"]["lost_before"] == 40


def test_the_store_shows_its_breaker_and_its_last_fault() -> None:
    board = words() | {
        "breaker": int(BreakerState.OPEN), "upload_fault": int(RemoteFault.TIMED_OUT),
        "upload_failed_at": T0, "uploaded_at": 0, "remote_seq": 3, "remote_at": T0,
    }  # fmt: skip
    found = horizons.of_remote(board, S3)
    assert found is not None
    assert (found["breaker"], found["fault"], found["uploaded_at"]) == ("open", "timed_out", None)
    (line,) = horizons.remote_lines(found)
    assert "breaker open, the last attempt failed at 2026-11-23T12:00:00.000Z: timed_out" in line


def test_a_conflict_says_where_its_remedy_stands() -> None:
    board = words() | {"upload_fault": int(RemoteFault.CONFLICT), "upload_failed_at": T0}
    _, remedy = horizons.remote_lines(horizons.of_remote(board, S3))
    assert "sda-supervisor logs replicator" in remedy


def test_what_is_not_pruned_shows() -> None:
    board = words() | {"prune_failed_at": T0}
    _, line = horizons.remote_lines(horizons.of_remote(board, S3))
    assert "not deleted since 2026-11-23T12:00:00.000Z" in line


def wanted_at(**of_radar: int) -> dict[str, horizons.Target]:
    board = words(**of_radar)
    found = horizons.targets(board, board, ["radar"])
    assert found is not None
    return found


def test_what_was_accepted_at_the_call_is_waited_for_and_no_more() -> None:
    wanted = wanted_at(log_end=9)
    assert horizons.behind(words(log_end=9, remote_new=8), wanted) == {"radar": 1}
    assert horizons.behind(words(log_end=500, remote_new=9), wanted) == {}


NOT_SAID = {
    "nothing was said yet": ({"log_id": 0, "ready": 0}, {"log_id": 0, "ready": 0}),
    "it is started": ({"log_id": 0, "ready": 0}, {"log_end": 9}),
    "it was rewound between the two": ({"log_end": 9}, {"log_id": 0, "ready": 0}),
    "its life is over": ({"log_end": 9}, {"log_end": 9, "ready": 0}),
    "one reading saw the old end and the new life": ({"log_end": 9}, {"log_end": 0}),
    "its log was made anew": ({"log_end": 9}, {"log_end": 9, "log_id": LOG + 1}),
}


@pytest.mark.parametrize("name", NOT_SAID)
def test_nothing_is_known_to_be_accepted_while_a_source_has_not_said_it(name: str) -> None:
    before, now = (words(**each) for each in NOT_SAID[name])
    assert horizons.targets(before, now, ["radar"]) is None


UNCOVERED = {
    "of another log": {"remote_log": LOG + 1},
    "of an epoch that is over": {"remote_by": EPOCH - 1 << 32 | 9},
    "of a later life": {"remote_by": EPOCH + 1 << 32 | 1},
    "of nothing": {"remote_by": 0},
}


@pytest.mark.parametrize("name", UNCOVERED)
def test_a_remote_snapshot_of_another_history_covers_nothing(name: str) -> None:
    board = words(log_end=50, remote_new=1000, remote_time=T0, **UNCOVERED[name])
    assert horizons.behind(board, wanted_at(log_end=50)) == {"radar": 50}
    remote = horizons.of_source("radar", board, S3)["remote"]
    assert (remote["position"], remote["behind"], remote["event_time"]) == (0, 50, None)


def test_a_log_made_anew_says_nothing_of_the_old_one() -> None:
    wanted = wanted_at(log_end=9)
    assert horizons.replaced(words(), wanted) == []
    assert horizons.replaced(words(log_id=0), wanted) == [], "it is rewound: it will say"
    assert horizons.replaced(words(log_id=LOG + 1), wanted) == ["radar"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [(RemoteFault.NONE, ExitCode.INTERNAL), (RemoteFault.UNREACHABLE, ExitCode.UNREACHABLE)],
)
def test_too_late_says_what_lacks_and_whose_fault_it_is(fault: RemoteFault, code: ExitCode) -> None:
    error = _too_late(words() | {"upload_fault": int(fault)}, {"radar": 3}, 5.0)
    assert error.exit_code is code
    assert str(error).startswith("cannot wait for the remote: after 5 s radar lacks 3 positions")
