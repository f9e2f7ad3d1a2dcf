"""Snapshots of the correlator's store: whole or not there, damage never copied over good ones."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from sda_pipeline.errors import SdaError, StateCorrupt
from sda_pipeline.state.manifest import Manifest, Unreadable
from sda_pipeline.state.recovery import CORRELATOR, SNAPSHOTS
from sda_pipeline.state.snapshot import every_manifest, manifests, prune, restore, take_snapshot
from sda_pipeline.state.store import Changes, CorrelatorStore
from tests.unit.store_rig import (
    EPOCH,
    data_file,
    fill,
    flip,
    manifest_file,
    snapshot,
    snapshot_file,
    step,
)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Five snapshots of a store that grows in between."""
    store = CorrelatorStore(tmp_path / CORRELATOR)
    for number in range(1, 6):
        fill(store, number, number)
        snapshot(tmp_path, store)
    store.close()
    return tmp_path


def names(state: Path) -> set[str]:
    return {path.name for path in (state / SNAPSHOTS).iterdir()}


def files_of(state: Path, *numbers: int) -> set[str]:
    return {f(state, n).name for n in numbers for f in (snapshot_file, manifest_file)}


def test_a_snapshot_holds_what_its_manifest_says(state: Path) -> None:
    newest = manifests(state / SNAPSHOTS)[0]
    assert (newest.epoch, newest.positions, newest.log_ids) == (EPOCH, {"radar": 5}, {"radar": 7})
    assert newest.size_bytes == snapshot_file(state, 5).stat().st_size
    restore(state / SNAPSHOTS, newest, state / "copy")
    copy = CorrelatorStore(state / "copy", readonly=True, single_file=True)
    assert copy.alerts()["alert-0"] == step(5).alerts["alert-0"]
    copy.close()


def test_a_manifest_bears_the_id_of_the_epoch_and_older_ones_are_read_without(
    state: Path,
) -> None:
    store = CorrelatorStore(state / CORRELATOR)
    meta = msgspec.structs.replace(store.meta, epoch_id=2**64 - 1)
    store.commit(Changes(meta=meta), lambda: None)
    taken = snapshot(state, store)
    store.close()
    newest, older = manifests(state / SNAPSHOTS)[:2]
    assert newest == taken
    assert (newest.epoch_id, older.epoch_id) == (2**64 - 1, 0)
    path = manifest_file(state, 6)
    told = msgspec.json.decode(path.read_bytes())
    del told["epoch_id"]
    path.write_bytes(msgspec.json.encode(told))
    assert manifests(state / SNAPSHOTS)[0].epoch_id == 0


def test_a_store_that_begins_an_epoch_meanwhile_is_copied_again(state: Path) -> None:
    store = CorrelatorStore(state / CORRELATOR)
    before = names(state)

    def rise(point: str) -> None:
        if point == "after_begin":
            meta = msgspec.structs.replace(store.meta, epoch=EPOCH + 1)
            store.commit(Changes(meta=meta), lambda: None)

    with pytest.raises(SdaError, match=f"its epoch rose from {EPOCH} to {EPOCH + 1}"):
        take_snapshot(store, state / SNAPSHOTS, 0, rise)
    assert names(state) == before
    again = snapshot(state, store)
    store.close()
    assert again.sequence >> 32 == again.epoch == EPOCH + 1


def test_only_the_newest_are_kept_and_nothing_else_stays(state: Path) -> None:
    kept = prune(state / SNAPSHOTS, 3)
    assert [manifest.sequence & 0xFF for manifest in kept] == [5, 4, 3]
    assert names(state) == files_of(state, 3, 4, 5), "no lock files, no data without manifest"


def test_an_unreadable_one_is_told_and_stays_until_enough_are_newer(state: Path) -> None:
    flip(manifest_file(state, 4), at=2)
    found = every_manifest(state / SNAPSHOTS)
    assert [type(each) for each in found] == [Manifest, Unreadable, Manifest, Manifest, Manifest]
    prune(state / SNAPSHOTS, 3)
    assert names(state) == files_of(state, 2, 3, 4, 5)
    prune(state / SNAPSHOTS, 1)
    assert names(state) == files_of(state, 5)


def test_a_manifest_under_another_name_is_not_believed(state: Path) -> None:
    manifest_file(state, 5).write_bytes(manifest_file(state, 2).read_bytes())
    (first, *_) = every_manifest(state / SNAPSHOTS)
    assert isinstance(first, Unreadable)
    assert first.why == f"its manifest says that it is {(EPOCH << 32) + 2}"


def test_damage_is_not_copied_over_good_snapshots(state: Path) -> None:
    before = names(state)
    flip(data_file(state), step(5).rows[0][1][:64], at=40)
    store = CorrelatorStore(state / CORRELATOR)
    with pytest.raises(StateCorrupt, match="does not match its CRC"):
        snapshot(state, store)
    store.close()
    assert names(state) == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_leaves_no_half_snapshot(
    code: int, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = names(state)
    store = CorrelatorStore(state / CORRELATOR)

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=os.strerror(code)):
            snapshot(state, store)
    assert names(state) == before
    assert snapshot(state, store).sequence & 0xFF == 6
    store.close()


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_data_that_is_not_the_manifests_is_refused(damage: str, state: Path) -> None:
    newest = manifests(state / SNAPSHOTS)[0]
    path = snapshot_file(state, 5)
    if damage == "flipped":
        flip(path, at=path.stat().st_size - 1)
    elif damage == "cut":
        os.truncate(path, 4096)
    else:
        path.unlink()
    with pytest.raises(StateCorrupt, match=r"SHA-256 is not the manifest's|No such file"):
        restore(state / SNAPSHOTS, newest, state / "copy")
