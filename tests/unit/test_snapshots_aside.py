"""A snapshot that a recovery could not use is moved aside: kept, but not counted as one that is.

Which rung of the ladder serves is tested in test_recovery.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sda_pipeline.errors import StateCorrupt
from sda_pipeline.state import recovery
from sda_pipeline.state.recovery import CORRELATOR, SNAPSHOTS
from sda_pipeline.state.snapshot import DAMAGED, manifests, prune
from tests.unit import store_rig
from tests.unit.store_rig import EPOCH, flip, manifest_file, snapshot_file


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state, _ = store_rig.make_state(tmp_path_factory.mktemp("made"))
    shutil.rmtree(state / CORRELATOR)
    return state


@pytest.fixture
def state(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "state"))


def recovered_epoch(state: Path) -> int:
    found = recovery.recover(state, lambda *_, **__: None, lambda _: None)
    found.store.close()
    return found.known_epoch


def test_it_is_kept_aside_and_does_not_push_a_good_one_out(state: Path) -> None:
    bad = snapshot_file(state, 3), manifest_file(state, 2)
    flip(bad[0], at=9000)
    flip(bad[1], at=2)
    data = [path.read_bytes() for path in bad]
    recovered_epoch(state)
    aside = state / SNAPSHOTS / DAMAGED
    assert [(aside / path.name).read_bytes() for path in bad] == data
    assert len(list(aside.iterdir())) == 4, "each with its other half"
    assert len(manifests(state / SNAPSHOTS)) == 1
    assert len(prune(state / SNAPSHOTS, keep=1)) == 1
    assert snapshot_file(state, 1).exists()
    assert len(list(aside.iterdir())) == 4, "what is aside is nobody's to delete"


def test_a_kill_right_after_it_does_not_forget_its_epoch(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        flip(snapshot_file(state, number), at=9000)

    def die(_: Path) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "CorrelatorStore", die)
        with pytest.raises(Killed):
            recovered_epoch(state)
    assert manifests(state / SNAPSHOTS) == []
    assert recovered_epoch(state) == EPOCH


NAMED = f"correlator-{9 << 32 | 4:020d}"


@pytest.mark.parametrize("directory", [".", DAMAGED])
@pytest.mark.parametrize("name", [f"{NAMED}.json", f"{NAMED}.snap", f"{NAMED}.snap.tmp"])
def test_a_name_alone_tells_an_epoch(name: str, directory: str, state: Path) -> None:
    place = state / SNAPSHOTS / directory
    place.mkdir(exist_ok=True)
    (place / name).write_bytes(b"{")
    assert recovered_epoch(state) == 9


@pytest.mark.parametrize("name", ["correlator-99999999999999999999.snap", "correlator-x.snap"])
def test_a_name_that_is_none_of_ours_tells_nothing(name: str, state: Path) -> None:
    (state / SNAPSHOTS / name).write_bytes(b"")
    assert recovered_epoch(state) == EPOCH


def test_it_would_otherwise_fail_again(state: Path) -> None:
    """The control: left in place it is found anew by the next recovery."""
    flip(snapshot_file(state, 3), at=9000)
    newest = manifests(state / SNAPSHOTS)[0]
    for _ in range(2):
        with pytest.raises(StateCorrupt):
            recovery.restore(state / SNAPSHOTS, newest, state / "copy")
