"""The replicator's second thread, turn by turn: faults, newer snapshots, other writers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from operators.remote_horizon import RemoteHorizon
from operators.uploader import News, Uploader
from sda_pipeline.clock import ManualClock
from sda_pipeline.errors import InvalidConfiguration, SdaError
from sda_pipeline.limits import REMOTE_STUCK_S, SECOND_NS
from sda_pipeline.state.objects import RemoteError
from sda_pipeline.vocabulary import BreakerState, RemoteFault
from tests.unit.sink_rig import Words
from tests.unit.store_rig import EPOCH, snapshot_file
from tests.unit.test_remote import Rig

CLOSED, OPEN = BreakerState.CLOSED, BreakerState.OPEN


def away(passing: bool = True) -> RemoteError:
    return RemoteError("list it", "it is away", RemoteFault.UNREACHABLE, passing=passing)


class Turns:
    """An uploader without its thread, and the first thread's side of it."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rig, self.clock = rig, ManualClock(7, 7)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.uploader = Uploader(
            lambda: rig.remote, rig.directory, self.clock, rig.hits.append, lambda: 0.0
        )
        self.words = Words({"epoch": EPOCH})
        worker: Any = SimpleNamespace(
            clock=self.clock, board=self.words, fail=lambda _: None,
            topology=SimpleNamespace(sources=("radar",)),
            event=lambda event, **fields: self.events.append((event, fields)),
        )  # fmt: skip
        monkeypatch.setattr(Uploader, "start", lambda _: None)
        self.horizon = RemoteHorizon(worker, self.uploader)

    def until_idle(self) -> list[News]:
        """Turn after turn, the clock moving as it waits; what was told."""
        while (wait_s := self.uploader.turn()) is not None:
            self.clock.advance(round(wait_s * SECOND_NS))
        return self.uploader.news()

    def told(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]


@pytest.fixture
def turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Turns:
    return Turns(Rig(tmp_path), monkeypatch)


def test_it_looks_first_then_uploads_what_is_offered(turns: Turns) -> None:
    (looked,) = turns.until_idle()
    assert looked.listing is not None
    assert looked.listing.good == []
    turns.uploader.offer(turns.rig.local[0])
    (done,) = turns.until_idle()
    assert done.uploaded == turns.rig.local[0]
    assert turns.until_idle() == []


def test_a_newer_one_takes_the_place_of_one_that_waits(turns: Turns) -> None:
    turns.rig.objects.faults = [away()] * 2
    turns.uploader.offer(turns.rig.local[0])
    turns.uploader.turn()
    turns.uploader.offer(turns.rig.local[2])
    news = turns.until_idle()
    assert [n.uploaded.sequence for n in news if n.uploaded] == [turns.rig.local[2].sequence]
    assert len(turns.rig.keys()) == 2


def test_faults_open_the_breaker_and_its_end_closes_it(turns: Turns) -> None:
    turns.rig.objects.faults = [away() for _ in range(6)]
    turns.uploader.offer(turns.rig.local[0])
    news = turns.until_idle()
    states = [each.breaker for each in news if each.fault]
    assert states == [CLOSED, CLOSED, OPEN, OPEN, OPEN, OPEN]
    assert news[-1].uploaded == turns.rig.local[0]
    assert turns.uploader.breaker.state is CLOSED


def test_while_the_breaker_is_open_nothing_is_called(turns: Turns) -> None:
    turns.rig.objects.faults = [away() for _ in range(3)]
    turns.uploader.offer(turns.rig.local[0])
    while turns.uploader.breaker.state is CLOSED:
        wait_s = turns.uploader.turn()
        turns.clock.advance(round((wait_s or 0.0) * SECOND_NS))
    calls = len(turns.rig.objects.calls)
    wait_s = turns.uploader.turn()
    assert wait_s
    assert len(turns.rig.objects.calls) == calls


def test_one_that_is_there_already_is_not_sent_again(turns: Turns) -> None:
    turns.rig.upload(0)
    turns.uploader.offer(turns.rig.local[0])
    turns.rig.objects.calls.clear()
    news = turns.until_idle()
    assert news[-1].uploaded == turns.rig.local[0]
    assert not [call for call in turns.rig.objects.calls if call.startswith("put")]


def test_one_whose_data_is_gone_there_is_sent_again(turns: Turns) -> None:
    turns.rig.upload(0)
    data = turns.rig.place(turns.rig.local[0], "snap")
    data.unlink()
    turns.uploader.turn()
    turns.horizon.turn()
    assert turns.words["radar.remote_new"] == 0, "nothing there serves"
    turns.uploader.offer(turns.rig.local[0])
    turns.until_idle()
    assert data.read_bytes() == snapshot_file(turns.rig.state, 1).read_bytes()


def test_a_local_file_that_is_gone_is_given_up(turns: Turns) -> None:
    for path in turns.rig.directory.iterdir():
        path.unlink()
    turns.uploader.offer(turns.rig.local[0])
    news = turns.until_idle()
    assert news[-1].fault is RemoteFault.DAMAGED
    assert turns.uploader.breaker.state is CLOSED, "the store is not to blame"


@pytest.mark.parametrize(("epoch", "again"), [(EPOCH, True), (EPOCH - 1, False)])
def test_a_remote_that_is_ahead_asks_for_a_higher_number(
    turns: Turns, epoch: int, again: bool
) -> None:
    # The snapshots directory was lost: numbers began anew below those that are taken.
    turns.rig.upload(2)
    turns.words["epoch"] = epoch
    turns.uploader.offer(turns.rig.local[0])
    turns.uploader.turn()
    assert turns.horizon.turn() is again
    assert turns.horizon.ahead == turns.rig.local[2].sequence
    (ahead,) = turns.told("remote_is_ahead")
    assert ("restart" in ahead["hint"]) is not again
    assert turns.words["remote_epoch"] == EPOCH


def test_the_same_number_of_another_writer_is_a_conflict_and_its_data_stays(turns: Turns) -> None:
    other = turns.rig.local[0]
    turns.rig.upload(0)
    data = turns.rig.place(other, "snap")
    before = data.read_bytes()
    mine = msgspec.structs.replace(other, created_ns=5)
    turns.uploader.offer(mine)
    news = turns.until_idle()
    assert RemoteFault.CONFLICT in [each.fault for each in news]
    assert data.read_bytes() == before


def test_the_board_says_how_far_the_remote_reaches(turns: Turns) -> None:
    for number in (0, 1):
        turns.uploader.offer(turns.rig.local[number])
        turns.uploader.turn()
    turns.horizon.turn()
    words = turns.words
    assert (words["radar.remote"], words["radar.remote_new"]) == (4, 8)
    assert words["remote_seq"] == turns.rig.local[1].sequence
    assert words["upload_fault"] == RemoteFault.NONE
    assert words["uploaded_at"] == turns.clock.wall_ns()
    assert [fields["sequence"] for fields in turns.told("uploaded")] == [
        manifest.sequence for manifest in turns.rig.local[:2]
    ]


def test_the_board_says_what_failed(turns: Turns) -> None:
    turns.rig.objects.faults = [away()]
    turns.uploader.turn()
    turns.horizon.turn()
    assert turns.words["upload_fault"] == RemoteFault.UNREACHABLE
    assert turns.words["upload_failed_at"] == turns.clock.wall_ns()
    (failed,) = turns.told("upload_failed")
    assert "it is away" in failed["why"]


def test_a_call_that_moves_nothing_is_ended_by_a_restart(turns: Turns) -> None:
    def stuck(_: str) -> None:
        turns.clock.advance(round(REMOTE_STUCK_S * SECOND_NS) + 1)
        with pytest.raises(SdaError, match="nothing has moved for 600 s"):
            turns.uploader.check_progress(turns.clock.monotonic_ns())

    turns.uploader._hit = stuck
    turns.uploader.turn()
    turns.uploader.check_progress(turns.clock.monotonic_ns())  # it waits: that is no hang


def test_a_long_listing_is_not_a_hang(turns: Turns) -> None:
    # Each call takes its time and moves something: only all of them together outlast the bound.
    for number in range(3):
        turns.rig.upload(number)
    begin = turns.rig.objects._begin

    def slow(call: str) -> None:
        turns.clock.advance(round(REMOTE_STUCK_S / 2 * SECOND_NS))
        turns.uploader.check_progress(turns.clock.monotonic_ns())
        begin(call)

    turns.rig.objects._begin = slow  # type: ignore[method-assign]
    (looked,) = turns.until_idle()
    assert looked.listing is not None
    assert len(looked.listing.good) == 3


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("bug"), "KeyError: 'bug'"),  # with its traceback: it is ours
        (InvalidConfiguration("read it", ["it is of format 2"], "upgrade"), "it is of format 2"),
    ],
)
def test_nothing_that_a_store_answers_stops_the_thread(
    error: Exception, said: str, turns: Turns
) -> None:
    turns.rig.objects.faults = [error]  # type: ignore[list-item]
    turns.uploader.offer(turns.rig.local[0])
    failed, *_, done = turns.until_idle()
    assert failed.fault is RemoteFault.UNEXPECTED
    assert said in failed.why
    assert done.uploaded == turns.rig.local[0]
