"""The recovery ladder: which rung serves after which damage, and a kill at every step of it."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.state import recovery
from sda_pipeline.state.recovery import CORRELATOR, LOGS, SNAPSHOTS, Recovered, Rung
from sda_pipeline.state.store import FORMAT_VERSION, Changes, CorrelatorStore
from tests.unit import store_rig
from tests.unit.store_rig import (
    EPOCH,
    Content,
    content_of,
    data_file,
    flip,
    manifest_file,
    read_content,
    snapshot_file,
)

Damage = Callable[[Path], object]


class Killed(BaseException):
    """Stands for SIGKILL."""


class Story:
    """What was reported."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def told(self, name: str, **wanted: Any) -> list[dict[str, Any]]:
        """The events of that name with those fields."""
        return [f for event, f in self.events if event == name and wanted.items() <= f.items()]

    def failed(self) -> list[str]:
        return [str(f["rung"]) for event, f in self.events if event == "recovery_rung_failed"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Content]]:
    return store_rig.make_state(tmp_path_factory.mktemp("made"))


@pytest.fixture
def state(made: tuple[Path, list[Content]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "state"))


def recover(state: Path, hit: Callable[[str], None] = lambda _: None) -> tuple[Recovered, Story]:
    story = Story()
    return recovery.recover(state, story, hit), story


def flip_a_value(state: Path) -> None:
    """In a stored row, where LMDB itself sees nothing wrong."""
    flip(data_file(state), store_rig.step(12).rows[0][1][:64], at=100)


def flip_a_page(state: Path) -> None:
    """The number of a page, which is structure."""
    data = bytearray(data_file(state).read_bytes())
    for page in range(2 * 4096, len(data), 4096):
        data[page] ^= 0x40
    data_file(state).write_bytes(data)


def no_lmdb(state: Path) -> None:
    shutil.rmtree(state / CORRELATOR)


def bad_snapshot(number: int) -> Damage:
    return lambda state: flip(snapshot_file(state, number), at=9000)


def bad_manifest(number: int) -> Damage:
    return lambda state: flip(manifest_file(state, number), at=2)


def no_data(number: int) -> Damage:
    return lambda state: snapshot_file(state, number).unlink()


LOCAL, SNAP, FRESH = Rung.LOCAL, Rung.SNAPSHOT, Rung.FRESH
# name: damages, the rung that serves, its index in the contents, rungs that failed before it
LADDER: dict[str, tuple[list[Damage], Rung, int, list[str]]] = {
    "intact": ([], LOCAL, 3, []),
    "deleted": ([no_lmdb], SNAP, 2, ["local"]),
    "a value": ([flip_a_value], SNAP, 2, ["local"]),
    "a page": ([flip_a_page], SNAP, 2, ["local"]),
    "emptied": ([lambda s: data_file(s).write_bytes(b"")], SNAP, 2, ["local"]),
    "cut": ([lambda s: data_file(s).write_bytes(data_file(s).read_bytes()[:20000])], SNAP, 2,
            ["local"]),
    "the newest snapshot too": ([no_lmdb, bad_snapshot(3)], SNAP, 1, ["local", "snapshot"]),
    "its manifest": ([no_lmdb, bad_manifest(3)], SNAP, 1, ["local", "snapshot"]),
    "its data": ([no_lmdb, no_data(3)], SNAP, 1, ["local", "snapshot"]),
    "two of them": ([flip_a_value, bad_snapshot(3), no_data(2)], SNAP, 0,
                    ["local", "snapshot", "snapshot"]),
    "all of them": ([flip_a_page, bad_snapshot(3), bad_snapshot(2), bad_manifest(1)], FRESH, -1,
                    ["local", "snapshot", "snapshot", "snapshot"]),
    "nothing is left": ([no_lmdb, lambda s: shutil.rmtree(s / SNAPSHOTS),
                         lambda s: (s / LOGS).mkdir()], FRESH, -1, ["local"]),
}  # fmt: skip


@pytest.mark.parametrize("name", LADDER)
def test_the_highest_good_rung_serves_and_each_failure_is_told(
    name: str, state: Path, made: tuple[Path, list[Content]]
) -> None:
    damages, rung, index, failed = LADDER[name]
    for damage in damages:
        damage(state)
    damaged = data_file(state).read_bytes() if data_file(state).exists() else None
    recovered, story = recover(state)
    try:
        assert recovered.rung is rung, story.events
        assert story.failed() == failed
        assert all(fields["why"] for event, fields in story.events if event.endswith("failed"))
        if rung is FRESH:
            assert recovered.store.empty
        else:
            want = made[1][index]
            found = content_of(recovered.store)
            assert found[:-1] == want[:-1]
            restored = rung is SNAP
            assert found.meta.epoch_due is restored
            assert bool(found.meta.snapshot) is restored
        known = 0 if name == "nothing is left" else EPOCH
        assert recovered.known_epoch == known
    finally:
        recovered.store.close()
    aside = state / f"{CORRELATOR}.aside-1"
    assert aside.exists() == (rung is not LOCAL and damaged is not None)
    if aside.exists():
        assert (aside / "data.mdb").read_bytes() == damaged, "kept as it was found"


def test_a_first_start_has_nothing_to_tell(tmp_path: Path) -> None:
    recovered, story = recover(tmp_path)
    recovered.store.close()
    assert (recovered.rung, recovered.known_epoch, story.events) == (FRESH, 0, [])
    recovered, story = recover(tmp_path)  # killed before its first commit
    recovered.store.close()
    assert (recovered.rung, story.events) == (FRESH, [])


POINTS = ("recovery_copied", "recovery_moved_aside", "recovery_installed")


@pytest.mark.parametrize("damage", [no_lmdb, flip_a_value])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_step_leaves_what_the_next_start_recovers_from(
    damage: Damage, point: str, state: Path, made: tuple[Path, list[Content]]
) -> None:
    damage(state)

    def die(hit: str) -> None:
        if hit == point:
            raise Killed

    with pytest.raises(Killed):
        recover(state, die)
    recovered, _ = recover(state)
    try:
        found = content_of(recovered.store)
        assert found[:-1] == made[1][2][:-1]
        assert found.meta.epoch_due, "it may say nothing before its epoch is raised"
        assert recovered.known_epoch == EPOCH
    finally:
        recovered.store.close()
    assert not (state / "correlator.restoring").exists()


def test_without_the_values_crc_the_damage_goes_unseen(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The control: LMDB's own structure is whole, so only the CRC of the value can tell.
    flip_a_value(state)
    monkeypatch.setattr(CorrelatorStore, "check_values", lambda _: None)
    recovered, _ = recover(state)
    recovered.store.close()
    assert recovered.rung is LOCAL


def newer_store(state: Path) -> None:
    store = CorrelatorStore(state / CORRELATOR)
    meta = msgspec.structs.replace(store.meta, format_version=FORMAT_VERSION + 1)
    store.commit(Changes(meta=meta), lambda: None)
    store.close()


def newer_lmdb(state: Path) -> None:
    data = bytearray(data_file(state).read_bytes())
    for page in (0, 4096):
        struct.pack_into("=I", data, page + 20, 2)
    data_file(state).write_bytes(data)


def newer_snapshot(state: Path) -> None:
    path = manifest_file(state, 3)
    path.write_bytes(
        orjson.dumps(orjson.loads(path.read_bytes()) | {"format_version": FORMAT_VERSION + 1})
    )


@pytest.mark.parametrize("newer", [newer_store, newer_lmdb, newer_snapshot])
def test_a_newer_format_is_refused_and_left_alone(newer: Damage, state: Path) -> None:
    newer(state)
    before = {path: path.read_bytes() for path in state.rglob("*.mdb") if "lock" not in path.name}
    with pytest.raises(
        InvalidConfiguration, match=r"this release reads [12]; use the release that"
    ):
        recover(state)
    assert {path: path.read_bytes() for path in before} == before
    assert not list(state.glob("*.aside-*"))


def test_one_damaged_version_is_damage_not_a_newer_format(state: Path) -> None:
    data = bytearray(data_file(state).read_bytes())
    struct.pack_into("=I", data, 20, 2)  # in one of the two meta pages
    data_file(state).write_bytes(data)
    recovered, _ = recover(state)
    recovered.store.close()
    assert recovered.rung is SNAP


def test_a_restored_store_is_the_next_starts_local_one(state: Path) -> None:
    no_lmdb(state)
    recovered, _ = recover(state)
    recovered.store.close()
    first = read_content(state)
    recovered, story = recover(state)
    assert (recovered.rung, story.events) == (LOCAL, [])
    assert content_of(recovered.store) == first
    recovered.store.close()
