"""What the board says of the remote store: how far it reaches, and what is wrong with it."""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path

import msgspec
import pytest

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.ring.board import board_words
from sda_pipeline.state.objects import RemoteError
from sda_pipeline.vocabulary import RemoteFault
from tests.unit.store_rig import EPOCH
from tests.unit.test_remote import Rig
from tests.unit.uploader_rig import LOG_ID, Turns, away


@pytest.fixture
def turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Turns:
    return Turns(Rig(tmp_path), monkeypatch)


def test_the_board_says_how_far_the_remote_reaches(turns: Turns) -> None:
    for number in (0, 1):
        turns.uploader.offer(turns.rig.local[number])
        turns.uploader.turn()
    turns.horizon.turn()
    words = turns.words
    assert words["radar.remote_by"] == turns.rig.local[1].sequence
    assert words["radar.remote_log"] == LOG_ID
    assert (words["radar.remote"], words["radar.remote_new"]) == (4, 8)
    assert words["remote_seq"] == turns.rig.local[1].sequence
    assert words["upload_fault"] == RemoteFault.NONE
    assert words["uploaded_at"] == turns.clock.wall_ns()
    assert [fields["sequence"] for fields in turns.told("uploaded")] == [
        manifest.sequence for manifest in turns.rig.local[:2]
    ]


LATER = 99  # the id of a log that was made anew


def test_it_speaks_of_the_log_that_is_there_now(turns: Turns) -> None:
    # The disk was lost and another snapshot served: what the newest one covers is another history.
    for number in (0, 1):
        turns.rig.upload(number)
    turns.until_idle_and_told()
    words = turns.words
    assert (words["radar.remote_new"], words["radar.remote_log"]) == (8, LOG_ID)
    words.update({"radar.log_id": LATER, "radar.log_first": 5})
    turns.horizon.turn()
    assert words["radar.remote_log"] == LATER
    assert (words["radar.remote"], words["radar.remote_new"]) == (4, 4), "what it was begun behind"
    assert words["radar.remote_by"] == turns.rig.local[0].sequence
    words.update({"radar.log_id": LATER + 1, "radar.log_first": 1})
    turns.horizon.turn()
    assert (words["radar.remote_new"], words["radar.remote_by"]) == (0, 0), "it begins anew"
    assert words["radar.remote_time"] == 0


def test_another_pipelines_snapshots_cover_nothing(turns: Turns) -> None:
    theirs = msgspec.structs.replace(
        turns.rig.local[0], log_ids={"radar": LATER}, positions={"radar": 1000}
    )
    turns.rig.put(theirs)
    turns.until_idle_and_told()
    assert turns.words["remote_seq"] == theirs.sequence
    assert turns.words["radar.remote_new"] == turns.words["radar.remote_by"] == 0


def test_a_log_of_which_nothing_is_known_yet_is_not_spoken_of(turns: Turns) -> None:
    # The replicator's own life is new, the store is away, and the log was made anew.
    turns.words.update({"radar.remote_log": LOG_ID, "radar.remote": 3, "radar.remote_new": 9})
    turns.horizon.turn()
    assert turns.words["radar.remote_new"] == 9, "what an earlier life found there"
    turns.words["radar.log_id"] = 0  # its source is started again
    turns.horizon.turn()
    assert turns.words["radar.remote_log"] == LOG_ID
    turns.words["radar.log_id"] = LATER
    turns.horizon.turn()
    assert turns.words["radar.remote_log"] == LATER
    assert turns.words["radar.remote"] == turns.words["radar.remote_new"] == 0


@pytest.mark.parametrize("log_id", [LOG_ID, LATER], ids=["a new epoch", "and a new log"])
def test_the_words_are_written_against_the_order_in_which_they_are_read(
    log_id: int, turns: Turns
) -> None:
    # The newest snapshot did not serve: the next one covers less. Whoever reads one word after the
    # other, while they are written, pairs no position with another log, nor with a later epoch.
    for number in (0, 1):
        turns.rig.upload(number)
    turns.until_idle_and_told()
    names = ["radar.remote_log", "radar.remote_by", "radar.remote_new"]
    assert [word for word in board_words(("radar",), ()) if word in names] == names
    history = [[turns.words.get(name) for name in names]]
    assert history[0][2] == 8

    def write(name: str, value: int) -> None:
        turns.words.update({name: value})
        history.append([turns.words.get(each) for each in names])

    turns.words.set = write  # type: ignore[method-assign]
    turns.words.update({"radar.log_id": log_id, "radar.log_first": 5, "epoch": EPOCH + 1})
    turns.uploader.offer(turns.rig.renumber(turns.rig.local[0], EPOCH + 1 << 32 | 1))
    turns.until_idle_and_told()
    new = {(log_id, EPOCH + 1)} | ({(LATER, EPOCH)} if log_id == LATER else set())
    found = {
        history[position][2]
        for log, by, position in combinations_with_replacement(range(len(history)), 3)
        if (history[log][0], history[by][1] >> 32) in new
    }
    assert found == {4}


@pytest.mark.parametrize("there", [True, False])
def test_a_new_epoch_wants_a_snapshot_of_its_own_once(turns: Turns, there: bool) -> None:
    if there:
        turns.rig.upload(0)
    turns.until_idle_and_told()
    assert not turns.horizon.turn()
    turns.words["epoch"] = EPOCH + 1
    assert turns.horizon.turn() is there, "an empty store lacks nothing yet"
    assert not turns.horizon.turn()


@pytest.mark.parametrize("log", [LOG_ID, LATER], ids=["known", "of another log"])
def test_manifests_that_are_not_served_give_no_log_free(log: int, turns: Turns) -> None:
    for number in range(3):
        turns.rig.upload(number)
    turns.words.update({"radar.remote_log": log, "radar.remote": 4})  # of the life before
    turns.unserve(*turns.rig.local[:2])
    turns.until_idle_and_told()
    assert turns.words["radar.remote_new"] == 10, "the newest was served"
    assert turns.words["radar.remote"] == (4 if log == LOG_ID else 0)
    for number in range(3):  # as many newer ones as are kept
        sequence = turns.rig.local[2].sequence + 1 + number
        turns.uploader.offer(turns.rig.renumber(turns.rig.local[2], sequence))
        turns.until_idle_and_told()
    assert turns.words["radar.remote"] == 10


def test_the_board_says_what_failed(turns: Turns) -> None:
    turns.rig.objects.faults = [away()]
    turns.uploader.turn()
    turns.horizon.turn()
    assert turns.words["upload_fault"] == RemoteFault.UNREACHABLE
    assert turns.words["upload_failed_at"] == turns.clock.wall_ns()
    (failed,) = turns.told("upload_failed")
    assert "it is away" in failed["why"]


def test_the_fault_is_over_when_the_store_serves_again(turns: Turns) -> None:
    # Also with nothing to upload: nobody may be sent to look for what is no more.
    turns.rig.objects.faults = [away()]
    turns.until_idle()
    turns.horizon.uploader._news.clear()
    turns.words["upload_fault"] = int(RemoteFault.UNREACHABLE)
    turns.rig.upload(0)
    turns.uploader.offer(turns.rig.local[0])
    turns.uploader.turn()
    turns.horizon.turn()
    assert turns.words["upload_fault"] == RemoteFault.NONE


def test_a_store_that_lists_and_takes_nothing_stays_at_fault(turns: Turns) -> None:
    full = RemoteError("put it", "it is full", RemoteFault.FULL)
    begin = turns.rig.objects._begin

    def no_room(call: str) -> None:
        begin(call)
        if call.startswith("put"):
            raise full

    turns.rig.objects._begin = no_room  # type: ignore[method-assign]
    turns.uploader.offer(turns.rig.local[0])
    faults = turns.words_written("upload_fault")
    for _ in range(4):
        turns.clock.advance(round((turns.uploader.turn() or 0.0) * SECOND_NS))
        turns.horizon.turn()
    assert {*faults} == {RemoteFault.FULL}, "at no moment it seems to be well"
