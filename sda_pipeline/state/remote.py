"""Snapshots in an object store: their layout, the order of an upload, the way back (DESIGN 10).

``<prefix>/<pipeline>/correlator/<sequence, 20 digits>.json`` is the manifest of the local snapshot,
byte for byte (SPEC 6); ``<sequence>-<SHA-256, its first 16 digits>.snap`` beside it is the data. So
another writer of the same sequence cannot replace the data of ours, on any store; older releases
left the SHA-256 out, which is read still. A snapshot without a manifest does not exist. Not when to
upload (operators/uploader.py) nor when to restore (``recovery.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from sda_pipeline.errors import StateCorrupt
from sda_pipeline.records.alert import EPOCH_SHIFT
from sda_pipeline.state.manifest import Manifest, Unreadable, parse_manifest
from sda_pipeline.state.objects import Fetched, Found, Moved, Objects, RemoteError
from sda_pipeline.state.snapshot import data_path, manifest_path
from sda_pipeline.vocabulary import RemoteFault

_NAME = re.compile(r"(\d{20})(?:(\.json)|(?:-[0-9a-f]{16})?\.snap)")
_SHA_DIGITS = 16
_NO_DATA = "its data is not there"


def another_writer(name: str) -> RemoteError:
    """A snapshot of this sequence is there, and it is not ours."""
    hint = "give each pipeline a prefix of its own"
    why = "another writer's manifest stands there"
    return RemoteError(f"write {name}", why, RemoteFault.CONFLICT, hint, passing=False)


def sequence_of(each: Manifest | Unreadable) -> int:
    """Of an entry of a listing; an unreadable one has it in its name."""
    return each.sequence if isinstance(each, Manifest) else int(each.path.stem)


class Unserved(Unreadable):
    """A manifest that is there and was not to be had; its snapshot may be good."""

    error: RemoteError

    def __new__(cls, path: Path, error: RemoteError) -> Unserved:
        """``error``: what the store did instead."""
        made = super().__new__(cls, path, error.why)
        made.error = error
        return made


class Unread(Unreadable):
    """A manifest that is older than those that are kept: nobody has asked for it."""

    def __new__(cls, path: Path) -> Unread:
        """``path``: the key that it has."""
        return super().__new__(cls, path, "it was not read")


class Listing(NamedTuple):
    """What the store holds, newest first. ``orphans``: data whose manifest was never written."""

    found: list[Manifest | Unreadable]
    orphans: list[int]

    @property
    def good(self) -> list[Manifest]:
        """The snapshots whose manifest can be read, and whose data has the size it says."""
        return [each for each in self.found if isinstance(each, Manifest)]

    @property
    def unserved(self) -> list[Unserved]:
        """Manifests that may be good for all that is known, newest first."""
        return [each for each in self.found if isinstance(each, Unserved)]

    def oldest(self, keep: int) -> int:
        """The sequence of the ``keep``-th good one, 0 when there are fewer. What is older is to be
        pruned, and counts for nothing where that fails.
        """
        good = self.good[:keep]
        return good[-1].sequence if len(good) == keep else 0

    def plus(self, manifest: Manifest) -> Listing:
        """The same after an upload."""
        others = [each for each in self.found if sequence_of(each) != manifest.sequence]
        found = sorted([manifest, *others], key=sequence_of, reverse=True)
        return Listing(found, [each for each in self.orphans if each != manifest.sequence])

    @property
    def taken(self) -> dict[int, int]:
        """By epoch the highest sequence that is taken, by whatever."""
        return highest_by_epoch([*map(sequence_of, self.found), *self.orphans])


def highest_by_epoch(sequences: Iterable[int]) -> dict[int, int]:
    """Numbers are counted within an epoch."""
    return {sequence >> EPOCH_SHIFT: sequence for sequence in sorted(sequences)}


class RemoteSnapshots:
    """The snapshots of one pipeline in one bucket."""

    def __init__(self, objects: Objects, prefix: str, pipeline: str, keep: int) -> None:
        self._objects, self._keep = objects, keep
        self._place = f"{prefix}/{pipeline}/correlator/"
        self._read: dict[int, Manifest] = {}  # manifests never change: each is read once
        self._data: dict[int, list[Found]] = {}  # by sequence, as last listed

    def manifest_key(self, sequence: int) -> str:
        """Where the manifest of a snapshot lies."""
        return f"{self._place}{sequence:020d}.json"

    def data_key(self, manifest: Manifest) -> str:
        """Where the data of a snapshot lies."""
        digest = manifest.sha256[:_SHA_DIGITS]
        return f"{self._place}{manifest.sequence:020d}-{digest}.snap"

    def _data_keys(self, manifest: Manifest) -> tuple[str, str]:
        """The same, and where older releases put it."""
        return self.data_key(manifest), f"{self._place}{manifest.sequence:020d}.snap"

    def listing(self, moved: Moved = lambda: None, *, lenient: bool = False) -> Listing:
        """Read the directory, and the manifests that are new, down to the last that is kept;
        ``moved`` is called after each.

        RemoteError when the store does not serve, or, unless ``lenient``, one of the manifests;
        InvalidConfiguration when a manifest has a newer format version.
        """
        listed = self._objects.list(self._place)
        moved()
        there: set[int] = set()
        self._data = {}
        for each in listed:
            match = _NAME.fullmatch(each.key.removeprefix(self._place))
            if match is None:
                continue
            if match[2]:
                there.add(int(match[1]))
            else:
                self._data.setdefault(int(match[1]), []).append(each)
        self._read = {s: m for s, m in self._read.items() if s in there}
        found: list[Manifest | Unreadable] = []
        good = 0
        for sequence in sorted(there, reverse=True):
            if good == self._keep:
                found.append(Unread(Path(self.manifest_key(sequence))))
                continue
            manifest = self._with_data(self._manifest(sequence, lenient))
            found += [manifest] if manifest is not None else []
            good += isinstance(manifest, Manifest)
            moved()
        return Listing(found, sorted(self._data.keys() - there, reverse=True))

    def read(self, unread: Unread) -> Manifest | Unreadable:
        """A manifest that was passed over; RemoteError when it is not served."""
        found = self._manifest(sequence_of(unread), lenient=False)
        return found if found is not None else Unreadable(unread.path, "it was deleted meanwhile")

    def _manifest(self, sequence: int, lenient: bool) -> Manifest | Unreadable | None:
        """One manifest; None when it was deleted since the listing."""
        if sequence in self._read:
            return self._read[sequence]
        key = self.manifest_key(sequence)
        try:
            data = self._objects.get(key)
        except RemoteError as error:
            if error.fault is RemoteFault.MISSING:
                return None
            if error.fault is RemoteFault.DAMAGED:
                return Unreadable(Path(key), error.why)
            if lenient:
                return Unserved(Path(key), error)
            raise
        found = parse_manifest(data, Path(key), sequence)
        if isinstance(found, Manifest):
            self._read[sequence] = found
        return found

    def _with_data(self, found: Manifest | Unreadable | None) -> Manifest | Unreadable | None:
        """A snapshot whose data is gone or cut is none, whatever its manifest says."""
        if not isinstance(found, Manifest):
            return found
        sizes = dict(self._data.get(found.sequence, ()))
        there = [sizes[key] for key in self._data_keys(found) if key in sizes]
        if there[:1] == [found.size_bytes]:
            return found
        why = f"its data has {there[0]} bytes of {found.size_bytes}" if there else _NO_DATA
        return Unreadable(Path(self.manifest_key(found.sequence)), why)

    def upload(
        self, directory: Path, manifest: Manifest, hit: Callable[[str], None], moved: Moved
    ) -> None:
        """Copy one local snapshot there. ``prune`` is what comes next.

        ``hit`` is called with the name of each step's failpoint. A kill at any of them leaves
        either no manifest or a whole snapshot. OSError when the local file is gone, StateCorrupt
        when it is damaged: nothing is then written.
        """

        def sent_piece() -> None:
            moved()
            hit("upload_part")

        sequence = manifest.sequence
        path = data_path(directory, sequence)
        text = manifest_path(directory, sequence).read_bytes()
        # 1 data, whole or not at all
        expected = Fetched(manifest.size_bytes, manifest.sha256)
        self._objects.put_file(self.data_key(manifest), path, expected, sent_piece)
        hit("upload_data")
        # 2 manifest, last, and only if absent: now the snapshot exists
        key = self.manifest_key(sequence)
        if not self._objects.put_if_absent(key, text):
            raise another_writer(key)
        hit("upload_manifest")
        moved()

    def prune(self, listing: Listing, hit: Callable[[str], None], moved: Moved) -> Listing:
        """Keep the newest readable ones; what cannot be read goes when it is older than these.

        ``listing``: what is there, as last listed and uploaded. Returns what is there then.
        """
        oldest = listing.oldest(self._keep)
        old = [s for s in map(sequence_of, listing.found) if s < oldest]
        keys = [self.manifest_key(sequence) for sequence in old]
        keys += [k for s, data in self._data.items() if s < oldest for k, _ in data]
        # 3 delete what is too old, manifests first
        for key in keys:
            self._objects.delete(key)
            moved()
        hit("upload_pruned")
        found = [each for each in listing.found if sequence_of(each) >= oldest]
        return Listing(found, [orphan for orphan in listing.orphans if orphan >= oldest])

    def sweep(self, manifests: Iterable[Manifest] = ()) -> int:
        """Abort what failed and killed uploads have left; only while nothing is uploaded.

        ``manifests``: those that may have been begun, for a store that finds uploads only by their
        whole key.
        """
        places = [self._place, *map(self.data_key, manifests)]
        return sum(map(self._objects.abort_uploads, places))

    def is_conditional(self) -> bool:
        """Whether the store minds "only if absent". Where it does not, two writers of one number
        would take each other's manifests for their own.
        """
        key = f"{self._place}probe"
        self._objects.put_if_absent(key, b"first")
        minds = not self._objects.put_if_absent(key, b"second")
        self._objects.delete(key)
        return minds

    def fetch(self, manifest: Manifest, target: Path, moved: Moved) -> None:
        """Download a snapshot's data into the file ``target``, synced.

        StateCorrupt when it is missing or not what the manifest says; RemoteError when the store
        does not serve; OSError when ``target`` cannot be written.
        """
        for key in self._data_keys(manifest):
            try:
                got = self._objects.get_file(key, target, moved)
            except RemoteError as error:
                if error.fault is not RemoteFault.MISSING:
                    raise
                continue
            if got != (manifest.size_bytes, manifest.sha256):
                raise StateCorrupt(f"read {key}", "its size and SHA-256 are not the manifest's")
            return
        raise StateCorrupt(f"read {self.data_key(manifest)}", _NO_DATA)
