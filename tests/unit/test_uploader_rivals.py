"""Snapshots that are there and were not expected: a lost count goes on above them, another writer's
and a later life's are left alone.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.state.recovery import CORRELATOR
from sda_pipeline.state.snapshot import manifest_path, manifests, take_snapshot
from sda_pipeline.state.store import CorrelatorStore
from sda_pipeline.vocabulary import RemoteFault
from tests.unit.store_rig import EPOCH
from tests.unit.test_remote import Rig
from tests.unit.uploader_rig import CLOSED, Turns, uploads


@pytest.fixture
def turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Turns:
    return Turns(Rig(tmp_path), monkeypatch)


@pytest.mark.parametrize("mine", [0, 2], ids=["lower", "the-same"])
def test_a_lost_count_goes_on_above_what_is_taken(turns: Turns, mine: int) -> None:
    # The snapshots directory was lost: numbers began anew below those that are taken.
    turns.rig.upload(2)
    for path in turns.rig.directory.iterdir():
        path.unlink()
    turns.uploader.offer(msgspec.structs.replace(turns.rig.local[mine], created_ns=5))
    turns.uploader.turn()
    assert turns.horizon.turn(), "another one is wanted"
    assert turns.horizon.taken[EPOCH] == turns.rig.local[2].sequence
    assert [fields["sequence"] for fields in turns.told("remote_is_ahead")] == [
        turns.rig.local[2].sequence
    ]
    assert turns.words["upload_fault"] == RemoteFault.NONE
    assert turns.horizon.turn() is False


def test_leftovers_of_a_later_epoch_do_not_hide_what_is_taken_of_this_one(turns: Turns) -> None:
    rig = turns.rig
    rig.put(msgspec.structs.replace(rig.local[0], sequence=EPOCH << 32 | 52))
    rig.place(msgspec.structs.replace(rig.local[0], sequence=EPOCH + 1 << 32 | 1), "snap").touch()
    turns.uploader.offer(rig.local[2])
    assert turns.until_idle_and_told()
    store = CorrelatorStore(rig.state / CORRELATOR)
    again = take_snapshot(store, rig.directory, 5, lambda _: None, turns.horizon.taken.values())
    store.close()
    assert again.sequence == EPOCH << 32 | 53
    turns.uploader.offer(again)
    assert not turns.until_idle_and_told()
    assert turns.words["remote_seq"] == again.sequence


OTHER = {"radar": 8}  # the id of a log that is not ours
RIVALS = {
    "another writer of this epoch": ({"log_ids": OTHER}, "another writer's"),
    "another writer, further on": ({"log_ids": OTHER, "sequence": (EPOCH << 32) + 9}, "another"),
    "a later life": ({"epoch": EPOCH + 1, "sequence": EPOCH + 1 << 32 | 1}, "a later life's"),
}  # fmt: skip


@pytest.mark.parametrize("name", RIVALS)
def test_a_rivals_snapshots_stop_the_upload_and_that_is_shown(turns: Turns, name: str) -> None:
    changes, whose = RIVALS[name]
    theirs = turns.rig.put(msgspec.structs.replace(turns.rig.local[0], **changes))
    there = turns.rig.keys()
    for mine in turns.rig.local[1:]:  # also one that is numbered above
        turns.uploader.offer(mine)
        turns.uploader.turn()
        assert not turns.horizon.turn(), "no other number would help"
        assert turns.rig.keys() == there, "nothing is written beside it, and nothing pruned"
    assert turns.words["upload_fault"] == RemoteFault.CONFLICT
    assert turns.words["remote_rival"] == theirs.epoch
    assert "uploaded_at" not in turns.words
    failed = turns.told("upload_failed")[-1]
    assert f"the newest snapshot there is {whose}" in failed["why"]
    assert "sda-supervisor restart correlator" in failed["why"]
    assert turns.uploader.breaker.state is CLOSED, "the store is not to blame"


@pytest.mark.parametrize("epoch", [EPOCH, EPOCH + 1])
@pytest.mark.parametrize("offered", [True, False])
def test_nothing_is_written_beside_what_may_be_a_rivals(
    offered: bool, epoch: int, turns: Turns
) -> None:
    changes = {"sequence": epoch << 32 | 9, "epoch": epoch, "log_ids": OTHER}
    theirs = turns.rig.put(msgspec.structs.replace(turns.rig.local[0], **changes))
    turns.rig.put(turns.rig.local[0])
    there = turns.rig.keys()
    served = turns.rig.objects._begin
    turns.unserve(theirs)
    if offered:
        turns.uploader.offer(turns.rig.local[1])
    turns.until_idle_and_told()
    assert turns.uploader.turn(), "it is tried again, behind the breaker"
    turns.clock.advance(60 * SECOND_NS)
    assert turns.rig.keys() == there
    assert turns.words["upload_fault"] == RemoteFault.OVERLOADED
    assert turns.words["radar.remote_new"] == 0, "nothing is known to be durable"
    turns.rig.objects._begin = served  # type: ignore[method-assign]
    turns.until_idle_and_told()
    assert turns.rig.keys() == there
    assert turns.words["upload_fault"] == (RemoteFault.CONFLICT if offered else RemoteFault.NONE)


def test_an_older_epochs_newest_need_not_be_served(turns: Turns) -> None:
    changes = {"sequence": EPOCH - 1 << 32 | 9, "epoch": EPOCH - 1}
    turns.unserve(turns.rig.put(msgspec.structs.replace(turns.rig.local[0], **changes)))
    turns.uploader.offer(turns.rig.local[1])
    assert uploads(turns.until_idle()) == [turns.rig.local[1]]


def test_another_pipelines_other_sources_make_it_no_friend(turns: Turns) -> None:
    # Same prefix, name and epoch; one reads the radar alone, the other the telescopes.
    theirs = [
        msgspec.structs.replace(each, log_ids={"optical": 9}, positions={"optical": 5})
        for each in turns.rig.local
    ]
    for each in theirs:
        turns.rig.put(each)
    turns.uploader.offer(turns.rig.renumber(turns.rig.local[2], EPOCH << 32 | 10))
    turns.until_idle_and_told()
    assert turns.words["upload_fault"] == RemoteFault.CONFLICT
    assert turns.rig.remote.listing().good == theirs[::-1]


def test_a_log_made_anew_while_the_store_was_away_makes_no_rival(turns: Turns) -> None:
    # Every local snapshot is of the new log by now, and the uploader is started again.
    rig = turns.rig
    rig.put(msgspec.structs.replace(rig.local[0], epoch_id=21))
    for each in rig.local:
        changed = msgspec.structs.replace(each, epoch_id=21, log_ids=OTHER)
        manifest_path(rig.directory, each.sequence).write_bytes(msgspec.json.encode(changed))
    newest = manifests(rig.directory)[0]
    turns.uploader.offer(newest)
    turns.until_idle_and_told()
    assert turns.words["upload_fault"] == RemoteFault.NONE
    assert turns.words["remote_seq"] == newest.sequence


def test_a_higher_epoch_ends_the_rivalry(turns: Turns) -> None:
    theirs = turns.rig.put(msgspec.structs.replace(turns.rig.local[0], log_ids=OTHER))
    turns.uploader.offer(turns.rig.local[1])
    turns.uploader.turn()
    turns.horizon.turn()
    turns.words["epoch"] = EPOCH + 1  # the correlator was restarted
    assert turns.horizon.turn(), "a snapshot of the new epoch is wanted, changed or not"
    assert not turns.horizon.turn()
    mine = turns.rig.local[2]
    turns.uploader.offer(turns.rig.renumber(mine, EPOCH + 1 << 32 | 1))
    turns.uploader.turn()
    turns.horizon.turn()
    assert turns.words["upload_fault"] == RemoteFault.NONE
    assert turns.words["remote_rival"] == 0
    assert turns.words["remote_seq"] == EPOCH + 1 << 32 | 1
    assert theirs.sequence in [each.sequence for each in turns.rig.remote.listing().good]


def test_a_rival_that_is_gone_is_noticed(turns: Turns) -> None:
    turns.rig.put(msgspec.structs.replace(turns.rig.local[0], log_ids=OTHER))
    turns.uploader.offer(turns.rig.local[1])
    turns.until_idle_and_told()
    turns.uploader.look_again()
    turns.until_idle_and_told()
    assert turns.words["upload_fault"] == RemoteFault.CONFLICT, "it is there still"
    for path in turns.rig.objects.root.rglob("*.*"):
        path.unlink()
    turns.uploader.look_again()
    turns.until_idle_and_told()
    assert turns.words["upload_fault"] == RemoteFault.NONE
    assert turns.words["remote_seq"] == turns.rig.local[1].sequence


def test_a_writer_that_was_quicker_keeps_its_snapshot(turns: Turns) -> None:
    # It came between our look and our manifest.
    theirs = msgspec.structs.replace(turns.rig.local[1], log_ids=OTHER)
    turns.rig.before("put_if_absent", lambda: turns.rig.put(theirs))
    turns.uploader.offer(turns.rig.local[1])
    news = turns.until_idle()
    assert [each.fault for each in news if each.fault] == [RemoteFault.CONFLICT]
    assert uploads(news) == []
    assert turns.rig.remote.listing().good == [theirs]
