"""The recovery ladder of the correlator's store (DESIGN 10): its LMDB, else the newest good
snapshot, else older ones, else a new store. Each rung reports why the one above failed.

What is damaged is moved aside, never deleted. What the content means, and the epoch that every rung
but an intact LMDB must take before it emits, is the operator's (operators/correlator_open.py).
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import msgspec

from sda_pipeline.errors import InvalidConfiguration, StateCorrupt, Unreachable
from sda_pipeline.log.segments import sync_directory
from sda_pipeline.log.source_log import set_aside
from sda_pipeline.runtime.reporting import Report
from sda_pipeline.state.environment import DATA_FILE, FILE_MODE, damage_of
from sda_pipeline.state.snapshot import (
    DAMAGED,
    Manifest,
    Unreadable,
    every_manifest,
    manifests,
    restore,
    set_snapshot_aside,
)
from sda_pipeline.state.store import Changes, CorrelatorStore

CORRELATOR, SNAPSHOTS, LOGS = "correlator", "snapshots", "log"  # in the state directory
_RESTORING = "correlator.restoring"  # a copy not yet in place; a kill leaves it, a start removes it

_LMDB_MAGIC, _LMDB_VERSION = 0xBEEFC0DE, 1
_PAGE_BYTES = 4096  # the second meta page begins there
_LMDB_META = struct.Struct("=II")  # magic, data version; after a page header of 16 or 24 bytes


class Rung(StrEnum):
    """Which rung of the ladder held."""

    LOCAL = "local"
    SNAPSHOT = "snapshot"
    FRESH = "fresh"


class Recovered(NamedTuple):
    """The store, open and verified. ``known_epoch`` is the highest that any rung told of."""

    store: CorrelatorStore
    rung: Rung
    known_epoch: int


def recover(state: Path, report: Report, hit: Callable[[str], None]) -> Recovered:
    """Open the correlator's store from the highest rung that holds.

    ``hit`` is called with the name of each step's failpoint; a kill at any of them leaves what the
    next start recovers from. InvalidConfiguration when something has a newer format version,
    Unreachable when the directories cannot be used, OSError when a copy cannot be written.
    """
    directory = state / CORRELATOR
    found = every_manifest(state / SNAPSHOTS)
    aside = manifests(state / SNAPSHOTS / DAMAGED)  # of a recovery that was killed, it may be
    epochs = [manifest.epoch for manifest in (*found, *aside) if isinstance(manifest, Manifest)]
    shutil.rmtree(state / _RESTORING, ignore_errors=True)
    try:
        store = _open_intact(directory)
        if not store.empty or not found:
            rung = Rung.FRESH if store.empty else Rung.LOCAL
            return Recovered(store, rung, max((store.meta.epoch, *epochs)))
        store.close()
        why = "it is empty, and there are snapshots"
    except StateCorrupt as error:
        why = error.why
    if found or (directory / DATA_FILE).exists() or (state / LOGS).exists():
        report("recovery_rung_failed", rung=Rung.LOCAL, why=why)  # else the first start: none did
    store, rung = _climb_down(state, found, report, hit)
    return Recovered(store, rung, max((store.meta.epoch, *epochs)))


def _climb_down(
    state: Path, found: list[Manifest | Unreadable], report: Report, hit: Callable[[str], None]
) -> tuple[CorrelatorStore, Rung]:
    """The rungs below the LMDB, newest snapshot first."""
    directory = state / CORRELATOR
    for manifest in found:
        try:
            copy = _copy_of(state, manifest)
        except StateCorrupt as error:
            name = manifest.path.stem if isinstance(manifest, Unreadable) else manifest.sequence
            aside = set_snapshot_aside(state / SNAPSHOTS, manifest)
            report("recovery_rung_failed", rung=Rung.SNAPSHOT, snapshot=name, why=error.why,
                   aside=str(aside))  # fmt: skip
            hit("recovery_snapshot_aside")
            continue
        hit("recovery_copied")
        _move_aside(directory, report)
        hit("recovery_moved_aside")
        copy.rename(directory)
        sync_directory(state)
        hit("recovery_installed")
        return CorrelatorStore(directory), Rung.SNAPSHOT
    _move_aside(directory, report)
    hit("recovery_moved_aside")
    return CorrelatorStore(directory), Rung.FRESH


def _open_intact(directory: Path) -> CorrelatorStore:
    """The store in a directory, every page and every value verified; else StateCorrupt."""
    file = directory / DATA_FILE
    action = f"open the correlator's store {directory}"
    if not file.exists():
        raise StateCorrupt(action, f"there is no {file}")
    _refuse_other_lmdb(file, action)
    faults = damage_of(file)  # in Python: the engine itself may die of what it would find
    if faults:
        raise StateCorrupt(action, f"{len(faults)} structural faults, the first: {faults[0]}")
    store = CorrelatorStore(directory)
    try:
        store.check_values()
    except StateCorrupt:
        store.close()
        raise
    return store


def _refuse_other_lmdb(file: Path, action: str) -> None:
    """InvalidConfiguration when both meta pages say that another LMDB format wrote the file."""
    try:
        with file.open("rb") as opened:
            pages = opened.read(64), opened.read(_PAGE_BYTES)[-64:]
    except OSError as error:
        why = error.strerror or str(error)
        raise Unreachable(action, why, "check that the directory is yours") from error
    for header in (16, 24):  # bytes before the meta: LMDB 0.9 and 1.0
        metas = [_LMDB_META.unpack_from(page, header) for page in pages if len(page) == 64]
        versions = [version for magic, version in metas if magic == _LMDB_MAGIC]
        if len(versions) == len(pages) and len({*versions}) == 1 and versions[0] != _LMDB_VERSION:
            raise InvalidConfiguration(
                action,
                [f"it has LMDB's data format {versions[0]}, this release reads {_LMDB_VERSION}"],
                "use the release that wrote it",
            )


def _copy_of(state: Path, manifest: Manifest | Unreadable) -> Path:
    """A snapshot as an environment beside its place, verified and marked; StateCorrupt if bad."""
    if isinstance(manifest, Unreadable):
        raise StateCorrupt(f"read the snapshot {manifest.path}", manifest.why)
    copy = state / _RESTORING
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(FILE_MODE)
    restore(state / SNAPSHOTS, manifest, copy / DATA_FILE)
    store = _open_intact(copy)
    try:
        # With the copy itself, so that no later start can take it for an intact store of its epoch.
        meta = msgspec.structs.replace(store.meta, snapshot=manifest.sequence, epoch_due=True)
        store.commit(Changes(meta=meta), lambda: None)
    finally:
        store.close()
    sync_directory(copy)
    return copy


def _move_aside(directory: Path, report: Report) -> None:
    if directory.exists() and any(directory.iterdir()):
        report("store_set_aside", path=str(set_aside(directory)))
