"""Snapshots in an object store: their order of steps, a kill or a fault at each, what is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sda_pipeline.errors import InvalidConfiguration, StateCorrupt
from sda_pipeline.state.manifest import Manifest, Unreadable
from sda_pipeline.state.objects import RemoteError
from sda_pipeline.state.recovery import CORRELATOR, SNAPSHOTS
from sda_pipeline.state.remote import RemoteSnapshots
from sda_pipeline.state.snapshot import data_path, manifest_path, manifests, take_snapshot
from sda_pipeline.state.store import CorrelatorStore
from sda_pipeline.vocabulary import FAILPOINTS, RemoteFault
from tests.contracts.directory_objects import DirectoryObjects
from tests.unit import store_rig
from tests.unit.store_rig import EPOCH, flip, snapshot_file

PLACE = "p/sda/correlator/"


class Killed(BaseException):
    """Stands for SIGKILL."""


class Rig:
    """Three local snapshots, oldest first, and an empty store."""

    def __init__(self, root: Path, keep: int = 3) -> None:
        self.state, _ = store_rig.make_state(root)
        self.directory = self.state / SNAPSHOTS
        self.local = manifests(self.directory)[::-1]
        self.objects = DirectoryObjects(root / "objects")
        self.keep = keep
        self.hits: list[str] = []

    @property
    def remote(self) -> RemoteSnapshots:
        """As another process sees it."""
        return RemoteSnapshots(self.objects, "p", "sda", self.keep)

    def upload(self, number: int, hit: Callable[[str], None] | None = None) -> list[Manifest]:
        """As the uploader does; what is there then."""
        hit, remote = hit or self.hits.append, self.remote
        listing = remote.listing()
        remote.upload(self.directory, self.local[number], hit, lambda: None)
        return remote.prune(listing.plus(self.local[number]), hit, lambda: None).good

    def put(self, manifest: Manifest) -> Manifest:
        """Another writer's snapshot: whole, for whoever only looks at it."""
        data = self.place(manifest, "snap")
        data.parent.mkdir(parents=True, exist_ok=True)
        data.write_bytes(bytes(manifest.size_bytes))
        self.place(manifest, "json").write_bytes(msgspec.json.encode(manifest))
        return manifest

    def renumber(self, manifest: Manifest, sequence: int) -> Manifest:
        """The same local snapshot under another number and epoch."""
        made = msgspec.structs.replace(manifest, sequence=sequence, epoch=sequence >> 32)
        old = data_path(self.directory, manifest.sequence)
        shutil.copy(old, data_path(self.directory, sequence))
        manifest_path(self.directory, sequence).write_bytes(msgspec.json.encode(made))
        return made

    def before(self, call: str, do: Callable[[], object]) -> None:
        """Do something once, right before the store is called so."""
        begin = self.objects._begin

        def intercept(called: str) -> None:
            if called.split(maxsplit=1)[0] == call:
                self.objects._begin = begin  # type: ignore[method-assign]
                do()
            begin(called)

        self.objects._begin = intercept  # type: ignore[method-assign]

    def place(self, manifest: Manifest, kind: str) -> Path:
        """The file behind an object of a snapshot."""
        remote = self.remote
        key = (
            remote.data_key(manifest) if kind == "snap" else remote.manifest_key(manifest.sequence)
        )
        return self.objects.root / key

    def keys(self) -> list[str]:
        return [found.key.removeprefix(PLACE) for found in self.objects.list(PLACE)]


def snapshot_of_another(rig: Rig) -> Manifest:
    """The oldest snapshot as another pipeline would have made it: same number, other content."""
    store = CorrelatorStore(rig.state / CORRELATOR)
    sequence = rig.local[0].sequence
    for path in rig.directory.iterdir():
        path.unlink()
    taken = take_snapshot(store, rig.directory, 5, lambda _: None)
    store.close()
    assert taken.sequence == sequence
    return taken


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_an_upload_is_data_then_manifest_then_pruning(rig: Rig) -> None:
    assert rig.upload(0) == [rig.local[0]]
    name = f"{(EPOCH << 32) + 1:020d}"
    data = f"{name}-{rig.local[0].sha256[:16]}.snap"
    assert rig.keys() == [data, f"{name}.json"]
    calls = [call.replace(PLACE, "") for call in rig.objects.calls]
    assert calls[1:3] == [f"put {data}", f"put_if_absent {name}.json"]
    assert rig.hits == ["upload_part", "upload_data", "upload_manifest", "upload_pruned"]


def test_the_manifest_is_the_local_one_to_the_byte(rig: Rig) -> None:
    rig.upload(0)
    local = rig.directory / f"correlator-{rig.local[0].sequence:020d}.json"
    assert rig.objects.get(f"{PLACE}{rig.local[0].sequence:020d}.json") == local.read_bytes()


def test_what_is_fetched_is_what_was_uploaded(rig: Rig, tmp_path: Path) -> None:
    rig.upload(1)
    rig.remote.fetch(rig.local[1], tmp_path / "back", lambda: None)
    assert (tmp_path / "back").read_bytes() == snapshot_file(rig.state, 2).read_bytes()


POINTS = [point for point in FAILPOINTS["upload"] if point not in ("upload_listed", "upload_told")]


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_step_leaves_a_whole_snapshot_or_none(
    rig: Rig, point: str, tmp_path: Path
) -> None:
    def die(hit: str) -> None:
        if hit == point:
            raise Killed

    rig.upload(0)
    with pytest.raises(Killed):
        rig.upload(1, die)
    good = rig.remote.listing().good
    assert good in ([rig.local[0]], [rig.local[1], rig.local[0]])
    for manifest in good:
        rig.remote.fetch(manifest, tmp_path / "back", lambda: None)
    assert rig.upload(1) == [rig.local[1], rig.local[0]], "once more is as if there was no kill"
    assert len(rig.keys()) == 4


@pytest.mark.parametrize("keep", [1, 2])
def test_only_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    rig = Rig(tmp_path, keep)
    for number in range(3):
        rig.upload(number)
    assert rig.remote.listing().good == rig.local[::-1][:keep]
    assert len(rig.keys()) == 2 * keep


def test_leftovers_go_when_as_many_newer_ones_are_there(tmp_path: Path) -> None:
    rig = Rig(tmp_path, keep=2)
    first, second, _ = (m.sequence for m in rig.local)
    rig.objects.put_if_absent(f"{PLACE}{first:020d}.json", b"{")  # unreadable
    for old in (f"{first - 1:020d}.snap", f"{first - 2:020d}-{'a' * 16}.snap"):
        rig.objects.put_if_absent(PLACE + old, b"x")  # without a manifest
    rig.upload(1)
    assert len(rig.keys()) == 5, "one good one alone pushes nothing out"
    rig.upload(2)
    assert min(rig.keys()).startswith(f"{second:020d}-")
    assert len(rig.keys()) == 4


def test_another_writers_snapshot_of_the_same_number_stays_whole(rig: Rig, tmp_path: Path) -> None:
    # Two hosts that took over from one epoch count alike; the other one was first.
    (tmp_path / "other").mkdir()
    other = Rig(tmp_path / "other")
    other.objects = rig.objects
    theirs = snapshot_of_another(other)
    other.remote.upload(other.directory, theirs, other.hits.append, lambda: None)
    assert theirs.sequence == rig.local[0].sequence
    assert theirs.sha256 != rig.local[0].sha256
    with pytest.raises(RemoteError, match="another writer") as error:
        rig.upload(0)
    assert (error.value.fault, error.value.passing) == (RemoteFault.CONFLICT, False)
    assert rig.remote.listing().good == [theirs]
    rig.remote.fetch(theirs, tmp_path / "back", lambda: None)  # checks its SHA-256


def test_a_local_file_that_is_damaged_is_not_sent(rig: Rig) -> None:
    flip(snapshot_file(rig.state, 1), at=9000)
    with pytest.raises(StateCorrupt, match="not what its manifest says"):
        rig.upload(0)
    assert rig.keys() == []


def test_a_damaged_file_does_not_replace_the_good_copy_of_it(rig: Rig, tmp_path: Path) -> None:
    # Two hosts with the same files: one of them has a bad disk.
    rig.upload(0)
    flip(snapshot_file(rig.state, 1), at=9000)
    with pytest.raises(StateCorrupt):
        rig.upload(0)
    rig.remote.fetch(rig.local[0], tmp_path / "back", lambda: None)


def test_the_name_that_older_releases_gave_the_data_is_read_and_pruned(tmp_path: Path) -> None:
    rig = Rig(tmp_path, keep=2)
    rig.upload(0)
    old = rig.objects.root / f"{PLACE}{rig.local[0].sequence:020d}.snap"
    rig.place(rig.local[0], "snap").rename(old)
    assert rig.remote.listing() == ([rig.local[0]], [])
    rig.remote.fetch(rig.local[0], tmp_path / "back", lambda: None)
    assert (tmp_path / "back").read_bytes() == snapshot_file(rig.state, 1).read_bytes()
    rig.upload(1)
    rig.upload(2)
    assert not old.exists()
    assert len(rig.keys()) == 4


def test_data_that_was_changed_or_cut_is_not_restored(rig: Rig, tmp_path: Path) -> None:
    rig.upload(0)
    place = rig.place(rig.local[0], "snap")
    whole = place.read_bytes()
    for spoiled in (whole[:-1], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:], b""):
        place.write_bytes(spoiled)
        with pytest.raises(StateCorrupt, match="not the manifest's"):
            rig.remote.fetch(rig.local[0], tmp_path / "back", lambda: None)
    place.unlink()
    with pytest.raises(StateCorrupt, match="its data is not there"):
        rig.remote.fetch(rig.local[0], tmp_path / "back", lambda: None)


def test_a_manifest_without_its_data_is_no_snapshot(tmp_path: Path) -> None:
    rig = Rig(tmp_path, keep=2)
    for number in (0, 1):
        rig.upload(number)
    data = rig.place(rig.local[1], "snap")
    whole = data.read_bytes()
    for spoil, why in (
        (lambda: data.write_bytes(whole[:-1]), f"has {len(whole) - 1} bytes of {len(whole)}"),
        (data.unlink, "its data is not there"),
    ):
        spoil()
        listing = rig.remote.listing()
        assert listing.good == [rig.local[0]]
        newest = listing.found[0]
        assert isinstance(newest, Unreadable)
        assert why in newest.why
        assert listing.taken == {EPOCH: rig.local[1].sequence}, "its number is taken all the same"
    assert rig.upload(2) == [rig.local[2], rig.local[0]], "it does not push a good one out"
    assert rig.upload(1) == [rig.local[2], rig.local[1]], "sent again, it is whole"


def test_a_manifest_in_anothers_place_is_not_taken(rig: Rig) -> None:
    rig.upload(0)
    sequence = rig.local[0].sequence
    data = rig.objects.get(f"{PLACE}{sequence:020d}.json")
    rig.objects.put_if_absent(f"{PLACE}{sequence + 5:020d}.json", data)
    newest, *rest = rig.remote.listing().found
    assert isinstance(newest, Unreadable)
    assert f"says that it is {sequence}" in newest.why
    assert rest == [rig.local[0]]


def test_a_newer_format_is_refused_not_passed_over(rig: Rig) -> None:
    rig.objects.put_if_absent(f"{PLACE}{1:020d}.json", b'{"format_version": 99}')
    with pytest.raises(InvalidConfiguration, match="format version 99"):
        rig.remote.listing()


def test_strange_names_are_none_of_ours(rig: Rig) -> None:
    for name in ("1.json", "notes.txt", f"{1:020d}.json.bak"):
        rig.objects.put_if_absent(PLACE + name, b"x")
    assert rig.remote.listing() == ([], [])
