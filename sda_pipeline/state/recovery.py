"""The recovery ladder of the correlator's store (DESIGN 10): its LMDB, else the newest good
snapshot, else older ones, else the remote ones, else a new store. Each rung reports why the one
above failed.

What is damaged is moved aside, never deleted. What the content means, and the epoch that every rung
but an intact LMDB must take before it emits, is the operator's (operators/correlator_open.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from sda_pipeline.errors import StateCorrupt, Unreachable
from sda_pipeline.log.segments import sync_directory
from sda_pipeline.log.source_log import set_aside
from sda_pipeline.records.alert import EPOCH_SHIFT
from sda_pipeline.runtime.reporting import Report
from sda_pipeline.state.environment import DATA_FILE, FILE_MODE
from sda_pipeline.state.intact import open_intact
from sda_pipeline.state.manifest import Manifest, Unreadable
from sda_pipeline.state.objects import RemoteError
from sda_pipeline.state.remote import Listing, Unread, Unserved, sequence_of
from sda_pipeline.state.snapshot import (
    DAMAGED,
    every_manifest,
    manifests,
    named_sequences,
    restore,
    set_snapshot_aside,
)
from sda_pipeline.state.store import Changes, CorrelatorStore

CORRELATOR, SNAPSHOTS, LOGS = "correlator", "snapshots", "log"  # in the state directory
_RESTORING = "correlator.restoring"  # a copy not yet in place; a kill leaves it, a start removes it

_SEQUENCE_END = 1 << 63  # a name that says more is none of ours
_ACTION = "recover the correlator's store"
_FRESH = "start with --allow-fresh: each source then begins at the first position it still has"


class Rung(StrEnum):
    """Which rung of the ladder held."""

    LOCAL = "local"
    SNAPSHOT = "snapshot"
    REMOTE = "remote"
    FRESH = "fresh"


class Recovered(NamedTuple):
    """The store, open and verified. ``known_epoch`` is the highest that any rung told of."""

    store: CorrelatorStore
    rung: Rung
    known_epoch: int


class RemoteRung(Protocol):
    """The remote snapshots, as a recovery sees them; ``state/remote_rung.py`` is the real one."""

    def listing(self) -> Listing:
        """What is there; RemoteError when it did not answer within the bound."""

    def read(self, unread: Unread) -> Manifest | Unreadable:
        """A manifest that the listing passed over; RemoteError when it was not to be had."""

    def fetch(self, manifest: Manifest, target: Path) -> None:
        """A snapshot's data into a file; StateCorrupt when it is not what the manifest says,
        RemoteError when it was not to be had.
        """


class Beyond(NamedTuple):
    """What lies below the local rungs. ``suspicion``: why this is no first start, "" if it may be;
    ``allow_fresh``: a new store may begin all the same.
    """

    remote: RemoteRung | None = None
    suspicion: str = ""
    allow_fresh: bool = False


def recover(
    state: Path, report: Report, hit: Callable[[str], None], beyond: Beyond | None = None
) -> Recovered:
    """Open the correlator's store from the highest rung that holds.

    ``hit`` is called with the name of each step's failpoint; a kill at any of them leaves what the
    next start recovers from. InvalidConfiguration when something has a newer format version,
    Unreachable when the directories or the remote cannot be used, StateCorrupt when there was state
    once, nothing of it serves and a remote is configured; OSError when a copy cannot be written.
    """
    directory = state / CORRELATOR
    found = every_manifest(state / SNAPSHOTS)
    aside = manifests(state / SNAPSHOTS / DAMAGED)  # of a recovery that was killed, it may be
    epochs = [manifest.epoch for manifest in (*found, *aside) if isinstance(manifest, Manifest)]
    for place in (state / SNAPSHOTS, state / SNAPSHOTS / DAMAGED):
        epochs += _epochs_of(named_sequences(place))
    shutil.rmtree(state / _RESTORING, ignore_errors=True)
    beyond = beyond or Beyond()
    try:
        store = open_intact(directory)
        remote_first = store.empty and beyond.remote is not None
        if not (store.empty and found) and not remote_first:
            rung = Rung.FRESH if store.empty else Rung.LOCAL
            return Recovered(store, rung, max((store.meta.epoch, *epochs)))
        why = f"it is empty, and there are {'snapshots' if found else 'remote snapshots, maybe'}"
        store.close()
    except StateCorrupt as error:
        why = error.why
    signs = _signs(state, found, aside)
    if signs:
        report("recovery_rung_failed", rung=Rung.LOCAL, why=why)  # else the first start: none did
    ladder = _Ladder(state, report, hit, [*epochs])
    beyond = beyond._replace(suspicion=beyond.suspicion or signs)
    store, rung = ladder.climb_down(found, beyond)
    return Recovered(store, rung, max((store.meta.epoch, *ladder.epochs)))


def _epochs_of(sequences: Iterable[int]) -> list[int]:
    """What the names of snapshots tell, without those that would leave no epoch above theirs."""
    return [number >> EPOCH_SHIFT for number in sequences if number < _SEQUENCE_END]


def _signs(state: Path, found: list[Manifest | Unreadable], aside: list[Manifest]) -> str:
    """What shows that a store was here once; "" when nothing does."""
    file = state / CORRELATOR / DATA_FILE
    if found or aside:
        return "there were snapshots of it"
    if (state / LOGS).exists():
        return "the sources have logs"
    if file.exists() and file.stat().st_size and not _is_blank(file.parent):
        return "its files are damaged"
    return ""


def _is_blank(directory: Path) -> bool:
    """An intact store in which nothing was ever committed: its first start was killed."""
    try:
        store = open_intact(directory)
    except StateCorrupt:
        return False
    store.close()
    return store.empty


class _Ladder:
    """The rungs below the LMDB."""

    def __init__(
        self, state: Path, report: Report, hit: Callable[[str], None], epochs: list[int]
    ) -> None:
        self.state, self.report, self.hit, self.epochs = state, report, hit, epochs

    def climb_down(
        self, found: list[Manifest | Unreadable], beyond: Beyond
    ) -> tuple[CorrelatorStore, Rung]:
        """Local snapshots, newest first; then the remote ones; then a new store."""
        for manifest in found:
            try:
                copy = _copy_of(self.state, Rung.SNAPSHOT, manifest, self._read_local)
            except StateCorrupt as error:
                aside = set_snapshot_aside(self.state / SNAPSHOTS, manifest)
                self._failed(Rung.SNAPSHOT, manifest, error.why, aside=str(aside))
                self.hit("recovery_snapshot_aside")
                continue
            return self._install(copy), Rung.SNAPSHOT
        if beyond.remote is not None:
            store = self._remote(beyond.remote, beyond)
            if store is not None:
                return store, Rung.REMOTE
        _move_aside(self.state / CORRELATOR, self.report)
        self.hit("recovery_moved_aside")
        return CorrelatorStore(self.state / CORRELATOR), Rung.FRESH

    def _remote(self, remote: RemoteRung, beyond: Beyond) -> CorrelatorStore | None:
        """The newest remote snapshot that verifies; None when a new store may begin."""
        try:
            listing = remote.listing()
        except RemoteError as error:
            self.report("recovery_rung_failed", rung=Rung.REMOTE, why=str(error))
            self._refuse_unserved(error, beyond)
            return None
        self.hit("remote_listed")
        self.epochs += [manifest.epoch for manifest in listing.good]
        self.epochs += _epochs_of([*listing.orphans, *map(sequence_of, listing.found)])
        for sequence in listing.orphans:
            self.report("recovery_rung_failed", rung=Rung.REMOTE, snapshot=sequence,
                        why="it has no manifest: its upload never ended")  # fmt: skip
        fetch = partial(self._fetch, remote)
        unserved: RemoteError | None = None
        for manifest in listing.found:
            try:
                found = remote.read(manifest) if isinstance(manifest, Unread) else manifest
                copy = _copy_of(self.state, Rung.REMOTE, found, fetch)
            except StateCorrupt as error:
                self._failed(Rung.REMOTE, manifest, error.why)
            except RemoteError as error:  # this one alone, it may be: others are tried
                unserved = unserved or error
                self._failed(Rung.REMOTE, manifest, error.why)
            else:
                return self._install(copy)
        if unserved is not None:
            self._refuse_unserved(unserved, beyond)
        else:
            self._refuse_hopeless(listing, beyond)
        return None

    def _refuse_unserved(self, error: RemoteError, beyond: Beyond) -> None:
        """What is there may be good and was not to be had: not to be passed over silently."""
        if not beyond.allow_fresh:
            why = f"nothing on this disk serves, and the remote does not: {error.action}"
            hint = f"bring it back and start again, or {_FRESH}"
            raise Unreachable(_ACTION, f"{why}: {error.why}", hint) from error

    def _refuse_hopeless(self, listing: Listing, beyond: Beyond) -> None:
        """All that is there is damaged, or it is empty though there was state once."""
        seen = bool(listing.found or listing.orphans)
        why = "none of the remote snapshots serves" if seen else "the remote holds no snapshot"
        if not seen and beyond.suspicion:
            self.report("recovery_rung_failed", rung=Rung.REMOTE, why=why)
        if (seen or beyond.suspicion) and not beyond.allow_fresh:
            told = f"{why}, and {beyond.suspicion}" if beyond.suspicion else why
            raise StateCorrupt(_ACTION, told, f"check its bucket and prefix, or {_FRESH}")

    def _fetch(self, remote: RemoteRung, manifest: Manifest, target: Path) -> None:
        remote.fetch(manifest, target)
        self.hit("remote_fetched")

    def _read_local(self, manifest: Manifest, target: Path) -> None:
        restore(self.state / SNAPSHOTS, manifest, target)

    def _install(self, copy: Path) -> CorrelatorStore:
        """Put a verified copy in the store's place."""
        directory = self.state / CORRELATOR
        self.hit("recovery_copied")
        _move_aside(directory, self.report)
        self.hit("recovery_moved_aside")
        copy.rename(directory)
        sync_directory(self.state)
        self.hit("recovery_installed")
        return CorrelatorStore(directory)

    def _failed(
        self, rung: Rung, manifest: Manifest | Unreadable, why: str, **fields: object
    ) -> None:
        name = manifest.path.stem if isinstance(manifest, Unreadable) else manifest.sequence
        self.report("recovery_rung_failed", rung=rung, snapshot=name, why=why, **fields)


def _copy_of(
    state: Path, rung: Rung, manifest: Manifest | Unreadable,
    read: Callable[[Manifest, Path], None],
) -> Path:  # fmt: skip
    """A snapshot as an environment beside its place, verified and marked; StateCorrupt if bad."""
    if isinstance(manifest, Unserved):
        raise manifest.error
    if isinstance(manifest, Unreadable):
        raise StateCorrupt(f"read the snapshot {manifest.path}", manifest.why)
    copy = state / _RESTORING
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(FILE_MODE)
    read(manifest, copy / DATA_FILE)
    store = open_intact(copy)
    try:
        # With the copy itself, so that no later start can take it for an intact store of its epoch.
        meta = msgspec.structs.replace(
            store.meta, snapshot=manifest.sequence, epoch_due=True, rung=rung.value
        )
        store.commit(Changes(meta=meta), lambda: None)
    finally:
        store.close()
    sync_directory(copy)
    return copy


def _move_aside(directory: Path, report: Report) -> None:
    if directory.exists() and any(directory.iterdir()):
        report("store_set_aside", path=str(set_aside(directory)))
