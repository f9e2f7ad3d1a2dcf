"""The replicator's second thread, turn by turn: faults, newer snapshots, what is told when."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest

from operators import uploader
from sda_pipeline.errors import InvalidConfiguration, SdaError
from sda_pipeline.limits import REMOTE_STUCK_S, SECOND_NS
from sda_pipeline.state.manifest import Manifest
from sda_pipeline.state.objects import RemoteError
from sda_pipeline.state.remote import RemoteSnapshots
from sda_pipeline.vocabulary import RemoteFault
from tests.unit.store_rig import EPOCH, snapshot_file
from tests.unit.test_remote import Killed, Rig
from tests.unit.uploader_rig import CLOSED, OPEN, Turns, away, uploads


@pytest.fixture
def turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Turns:
    return Turns(Rig(tmp_path), monkeypatch)


def test_it_looks_first_then_uploads_what_is_offered(turns: Turns) -> None:
    looked, _ = turns.until_idle()
    assert looked.listing is not None
    assert looked.listing.good == []
    turns.uploader.offer(turns.rig.local[0])
    assert uploads(turns.until_idle()) == [turns.rig.local[0]]
    assert turns.until_idle() == []


def test_success_is_told_as_soon_as_the_manifest_is_there(turns: Turns) -> None:
    turns.uploader.offer(turns.rig.local[0])
    begin = turns.rig.objects._begin
    seen: list[tuple[str, list[Manifest]]] = []

    def look(call: str) -> None:
        begin(call)
        seen.append((call.split(maxsplit=1)[0], uploads([*turns.uploader._news])))

    turns.rig.objects._begin = look  # type: ignore[method-assign]
    turns.until_idle()
    calls = [call for call, _ in seen]
    at = calls.index("put_if_absent")
    assert [told for _, told in seen] == [[]] * (at + 1) + [[turns.rig.local[0]]] * (
        len(seen) - at - 1
    )


def test_a_newer_one_takes_the_place_of_one_that_waits(turns: Turns) -> None:
    turns.rig.objects.faults = [away()] * 2
    turns.uploader.offer(turns.rig.local[0])
    turns.uploader.turn()
    turns.uploader.offer(turns.rig.local[2])
    news = turns.until_idle()
    assert uploads(news) == [turns.rig.local[2]]
    assert len(turns.rig.keys()) == 2


def test_faults_open_the_breaker_and_its_end_closes_it(turns: Turns) -> None:
    turns.rig.objects.faults = [away() for _ in range(6)]
    turns.uploader.offer(turns.rig.local[0])
    news = turns.until_idle()
    states = [each.breaker for each in news if each.fault]
    assert states == [CLOSED, CLOSED, OPEN, OPEN, OPEN, OPEN]
    assert uploads(news) == [turns.rig.local[0]]
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


def test_one_that_is_there_already_is_not_sent_again_nor_told_as_sent(turns: Turns) -> None:
    turns.rig.upload(0)
    turns.uploader.offer(turns.rig.local[0])
    turns.rig.objects.calls.clear()
    turns.uploader.turn()
    turns.horizon.turn()
    assert not [call for call in turns.rig.objects.calls if call.startswith("put")]
    assert turns.words["radar.remote_new"] == 4
    assert turns.told("uploaded") == []
    assert "uploaded_at" not in turns.words
    assert turns.until_idle() == []


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
    again = turns.until_idle_and_told()
    assert turns.words["upload_fault"] == RemoteFault.DAMAGED
    assert turns.uploader.breaker.state is CLOSED, "the store is not to blame"
    assert again, "another one is wanted, changed or not"
    assert not turns.horizon.turn(), "once"


def test_one_whose_place_is_taken_by_damage_is_replaced_by_the_next(turns: Turns) -> None:
    newest = turns.rig.local[2]
    turns.rig.upload(2)
    turns.rig.place(newest, "json").write_bytes(b"{garbage")
    turns.uploader.offer(newest)
    assert turns.until_idle_and_told()
    assert not turns.uploader.turn(), "it has looked once more"
    assert not turns.horizon.turn()
    assert turns.words["upload_fault"] == RemoteFault.CONFLICT, "not over: it is not there"
    turns.uploader.offer(turns.rig.renumber(newest, turns.horizon.taken[EPOCH] + 1))
    assert not turns.until_idle_and_told()
    assert turns.words["upload_fault"] == RemoteFault.NONE
    assert turns.words["radar.remote_new"] == newest.positions["radar"]


@pytest.mark.parametrize("lost", ["all", "data", "local too"])
def test_what_was_deleted_there_is_noticed_and_brought_again(turns: Turns, lost: str) -> None:
    rig = turns.rig
    for manifest in rig.local:
        turns.uploader.offer(manifest)
        turns.until_idle_and_told()
    there = rig.keys()
    turns.uploader.look_again()
    assert uploads(turns.until_idle()) == [], "nothing is missing"
    for path in rig.objects.root.rglob("*.snap" if lost == "data" else "*.*"):
        path.unlink()
    if lost == "local too":
        snapshot_file(rig.state, 3).unlink()
    reached = turns.words_written("radar.remote_new")
    turns.uploader.look_again()
    assert turns.until_idle_and_told() is (lost == "local too"), "another one is wanted"
    assert reached[0] == 0, "nobody is told that it is durable"
    assert reached[-1] == (0 if lost == "local too" else rig.local[2].positions["radar"])
    assert turns.words["remote_seq"] == (0 if lost == "local too" else rig.local[2].sequence)
    assert {*there[-2:]} <= {*rig.keys()} or lost == "local too"
    turns.uploader.look_again()
    turns.until_idle_and_told()
    assert (turns.words["upload_fault"] == RemoteFault.NONE) is (lost != "local too")


def test_its_thread_looks_again_by_itself(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploader, "REMOTE_LOOK_S", 0.01)
    looked = 0

    def counted(call: str) -> None:
        nonlocal looked
        looked += call.startswith("list ")
        if looked == 3:
            raise Killed

    def run() -> None:
        with contextlib.suppress(Killed):
            turns.uploader._run()

    turns.rig.objects._begin = counted  # type: ignore[method-assign]
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60.0)
    assert looked == 3


def test_a_newer_one_that_waits_is_all_that_is_wanted(turns: Turns) -> None:
    snapshot_file(turns.rig.state, 1).write_bytes(b"")
    turns.rig.before("list", lambda: turns.uploader.offer(turns.rig.local[1]))
    turns.uploader.offer(turns.rig.local[0])
    assert not turns.until_idle_and_told()
    assert turns.words["radar.remote_new"] == turns.rig.local[1].positions["radar"]


@pytest.mark.parametrize("offered", [False, True])
@pytest.mark.parametrize("error", [FileNotFoundError("no token file"), away()])
def test_a_store_that_cannot_be_seen_is_not_asked_again_at_once(
    error: Exception, offered: bool, turns: Turns
) -> None:
    # Such as a missing file of credentials: an OSError that is not the snapshot's.
    calls = 0

    def unusable() -> RemoteSnapshots:
        nonlocal calls
        calls += 1
        raise error

    turns.uploader._connect = unusable
    if offered:
        turns.uploader.offer(turns.rig.local[0])
    for _ in range(1000):
        turns.uploader.turn()
    assert calls == 1, "it waits, and the clock stands still"
    turns.uploader._connect = lambda: turns.rig.remote
    turns.clock.advance(60 * SECOND_NS)
    news = turns.until_idle()
    assert uploads(news) == [turns.rig.local[0]] * offered, "it was not taken for damaged"


def test_refused_credentials_are_read_anew(turns: Turns) -> None:
    made: list[None] = []
    turns.uploader._connect = lambda: made.append(None) or turns.rig.remote  # type: ignore[func-returns-value]
    denied = RemoteError("list it", "it answered 403", RemoteFault.DENIED, passing=False)
    turns.rig.objects.faults = [denied, away()]
    turns.uploader.offer(turns.rig.local[0])
    assert uploads(turns.until_idle()) == [turns.rig.local[0]]
    assert len(made) == 2, "once more after DENIED, and not after an outage"


def test_one_manifest_that_is_not_served_does_not_stop_the_uploads(turns: Turns) -> None:
    turns.rig.upload(0)
    turns.rig.upload(1)
    begin = turns.rig.objects._begin

    def spoiled(call: str) -> None:
        begin(call)
        if call == f"get {turns.rig.remote.manifest_key(turns.rig.local[0].sequence)}":
            raise RemoteError("get it", "it answered 500", RemoteFault.OVERLOADED)

    turns.rig.objects._begin = spoiled  # type: ignore[method-assign]
    turns.uploader.offer(turns.rig.local[2])
    assert uploads(turns.until_idle()) == [turns.rig.local[2]]


def test_who_may_read_no_manifest_is_told_so(turns: Turns) -> None:
    turns.rig.upload(0)
    begin = turns.rig.objects._begin

    def write_only(call: str) -> None:
        begin(call)
        if call.startswith("get "):
            raise RemoteError("get it", "it answered 403", RemoteFault.DENIED, passing=False)

    turns.rig.objects._begin = write_only  # type: ignore[method-assign]
    turns.uploader.offer(turns.rig.local[1])
    turns.uploader.turn()
    assert [each.fault for each in turns.uploader.news()] == [RemoteFault.DENIED]


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
    looked, _ = turns.until_idle()
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
    failed, *others = turns.until_idle()
    assert failed.fault is RemoteFault.UNEXPECTED
    assert said in failed.why
    assert uploads(others) == [turns.rig.local[0]]
