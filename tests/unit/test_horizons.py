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

T0 = 1_795_435_200 * SECOND_NS
S3 = S3Settings("bucket")


def words(**of_radar: int) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    return found | defaultdict(int, {f"radar.{word}": value for word, value in of_radar.items()})


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


def test_what_was_accepted_at_the_call_is_waited_for_and_no_more() -> None:
    wanted = horizons.targets(words(log_end=9, log_id=4), ["radar"])
    assert horizons.behind(words(log_end=9, remote_new=8), wanted) == {"radar": 1}
    assert horizons.behind(words(log_end=500, remote_new=9), wanted) == {}


def test_a_log_made_anew_says_nothing_of_the_old_one() -> None:
    wanted = horizons.targets(words(log_end=9, log_id=4), ["radar"])
    assert horizons.replaced(words(log_id=4), wanted) == []
    assert horizons.replaced(words(log_id=5), wanted) == ["radar"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [(RemoteFault.NONE, ExitCode.INTERNAL), (RemoteFault.UNREACHABLE, ExitCode.UNREACHABLE)],
)
def test_too_late_says_what_lacks_and_whose_fault_it_is(fault: RemoteFault, code: ExitCode) -> None:
    error = _too_late(words() | {"upload_fault": int(fault)}, {"radar": 3}, 5.0)
    assert error.exit_code is code
    assert str(error).startswith("cannot wait for the remote: after 5 s radar lacks 3 positions")
