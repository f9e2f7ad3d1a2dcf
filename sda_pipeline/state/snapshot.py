"""Local snapshots of the correlator's store: temp file, sync, rename, manifest last. Not their
upload, nor when one is restored (``recovery.py``).

``snapshots/correlator-<sequence>.snap`` is a compact LMDB file; ``.json`` beside it says what it
holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import orjson

from sda_pipeline.errors import SdaError, StateCorrupt
from sda_pipeline.limits import MIB, SNAPSHOT_SYNC_BYTES
from sda_pipeline.records.alert import EPOCH_SHIFT, NUMBER_MASK
from sda_pipeline.state.manifest import (
    Manifest,
    Unreadable,
    offsets_of,
    parse_manifest,
    watermarks_of,
)
from sda_pipeline.state.store import CorrelatorStore, Meta

CHUNK_BYTES = 1 * MIB  # read and written at a time
PREFIX = "correlator-"
_NAME = re.compile(rf"{PREFIX}(\d{{20}})\.(?:snap|json)")
DAMAGED = "damaged"  # directory beside the snapshots: those that a recovery could not use


def manifests(directory: Path) -> list[Manifest]:
    """The readable manifests of a snapshot directory, newest first."""
    return [found for found in every_manifest(directory) if isinstance(found, Manifest)]


def every_manifest(directory: Path) -> list[Manifest | Unreadable]:
    """Every manifest by descending sequence, the unreadable ones in their place.

    InvalidConfiguration when one has a newer format version: it is not to be passed over.
    """
    paths = sorted(directory.glob(f"{PREFIX}*.json"), key=lambda path: path.name, reverse=True)
    return [_read_manifest(path) for path in paths]


def named_sequences(directory: Path) -> list[int]:
    """The sequences that names in a snapshot directory tell of, whatever is in the files."""
    names = (_NAME.match(path.name) for path in directory.glob(f"{PREFIX}*"))
    return [int(match[1]) for match in names if match is not None]


def _read_manifest(path: Path) -> Manifest | Unreadable:
    try:
        data = path.read_bytes()
    except OSError as error:
        return Unreadable(path, f"its manifest cannot be read ({error})")
    return parse_manifest(data, path, int(path.stem.removeprefix(PREFIX)))


def data_path(directory: Path, sequence: int) -> Path:
    """Where the data of a snapshot lies."""
    return directory / f"{PREFIX}{sequence:020d}.snap"


def manifest_path(directory: Path, sequence: int) -> Path:
    """Where the manifest of a snapshot lies."""
    return directory / f"{PREFIX}{sequence:020d}.json"


def _stream(env: lmdb.Environment) -> Generator[bytes]:
    """A consistent compact copy of the environment, in chunks, under one read transaction."""
    read_fd, write_fd = os.pipe()
    failure: list[BaseException] = []

    def copy() -> None:
        try:
            env.copyfd(write_fd, compact=True)
        except lmdb.Error as error:
            failure.append(error)
        finally:
            os.close(write_fd)

    thread = threading.Thread(target=copy)
    thread.start()
    try:
        with os.fdopen(read_fd, "rb", buffering=CHUNK_BYTES) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    finally:
        thread.join()
    if failure:
        raise SdaError("copy the correlator's store", str(failure[0])) from failure[0]


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _publish(path: Path, chunks: Iterator[bytes], inside: Callable[[int], None]) -> tuple[int, str]:
    """Write a file by temp + sync + rename + directory sync; returns its size and SHA-256.

    It is synced every SNAPSHOT_SYNC_BYTES: whoever commits beside it never waits for more than
    that. ``inside`` is called after each chunk with the bytes written so far.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    size, synced, digest = 0, 0, hashlib.sha256()
    try:
        with temporary.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
                size += len(chunk)
                digest.update(chunk)
                file.flush()
                if size - synced >= SNAPSHOT_SYNC_BYTES:
                    os.fdatasync(file.fileno())
                    synced = size
                inside(size)
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk its space is needed elsewhere
        raise
    temporary.rename(path)
    _sync_directory(path.parent)
    return size, digest.hexdigest()


def take_snapshot(
    store: CorrelatorStore, directory: Path, now_ns: int, hit: Callable[[str], None],
    taken: Iterable[int] = (), pace: Callable[[int], None] = lambda _: None,
) -> Manifest:  # fmt: skip
    """Copy the store into a new snapshot; ``hit`` is called with the name of each step's
    failpoint, ``pace`` after each piece with the bytes written so far: it may wait.

    It is numbered above every local one, and those ``taken`` of the same epoch.
    """

    def inside(written: int) -> None:
        hit("inside_write")
        pace(written)

    directory.mkdir(mode=0o700, exist_ok=True)
    for leftover in directory.glob("*.tmp"):
        leftover.unlink()  # a killed writer's; never had a manifest
    numbers = [m.sequence & NUMBER_MASK for m in manifests(directory)]
    epoch = store.reload_meta().epoch
    numbers += [number & NUMBER_MASK for number in taken if number >> EPOCH_SHIFT == epoch]
    sequence = (epoch << EPOCH_SHIFT) | (max(numbers, default=0) + 1)
    path = data_path(directory, sequence)
    hit("after_begin")
    # 1 data: temp file, sync, rename, directory sync
    with contextlib.closing(_stream(store.env)) as chunks:
        size, digest = _publish(path, chunks, inside)
    hit("after_write")
    # 2 manifest, last: read from the copy itself, so it says what the copy holds
    positions, meta = _read_copy(path)
    if meta.epoch != epoch:
        path.unlink()
        why = f"its epoch rose from {epoch} to {meta.epoch} meanwhile: its number would lie"
        raise SdaError("take a snapshot", why, "it is tried again")
    manifest = Manifest(
        sequence=sequence, created_ns=now_ns, epoch=meta.epoch, epoch_id=meta.epoch_id,
        catalogue=f"{meta.catalogue:016x}", closed_to=meta.closed_to,
        positions={s: p["position"] for s, p in positions.items()},
        log_ids={s: p["log_id"] for s, p in positions.items()},
        watermarks=watermarks_of(positions), offsets=offsets_of(positions),
        size_bytes=size, sha256=digest,
    )  # fmt: skip
    data = orjson.dumps(msgspec.to_builtins(manifest), option=orjson.OPT_INDENT_2)
    _publish(manifest_path(directory, sequence), iter([data]), lambda _: None)
    hit("after_rename")
    return manifest


def _read_copy(path: Path) -> tuple[dict[str, dict[str, Any]], Meta]:
    """Positions and meta of a copy, after every value in it was found intact.

    A copy of damage would push a good snapshot out: it is deleted and StateCorrupt raised.
    """
    try:
        copy = CorrelatorStore(path, readonly=True, single_file=True)
        try:
            copy.check_values()
            found = copy.positions()
            return {s: msgspec.msgpack.decode(data) for s, data in found.items()}, copy.meta
        finally:
            copy.close()
    except StateCorrupt:
        path.unlink()
        raise


def restore(directory: Path, manifest: Manifest, target: Path) -> None:
    """Copy a snapshot's data into the file ``target``, synced.

    StateCorrupt when the data is missing, unreadable or not what the manifest says; OSError when
    ``target`` cannot be written.
    """
    action = f"read the snapshot {data_path(directory, manifest.sequence)}"
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for chunk in _chunks(data_path(directory, manifest.sequence), action):
            file.write(chunk)
            digest.update(chunk)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != manifest.sha256:
        raise StateCorrupt(action, "its SHA-256 is not the manifest's")


def _chunks(path: Path, action: str) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise StateCorrupt(action, error.strerror or str(error)) from error


def set_snapshot_aside(directory: Path, manifest: Manifest | Unreadable) -> Path:
    """Move a snapshot that cannot be used out of the way, manifest first; returns where it is now.

    It would count as one of those that are kept. What an earlier one left there is replaced.
    """
    if isinstance(manifest, Manifest):
        path = manifest_path(directory, manifest.sequence)
    else:
        path = manifest.path
    aside = directory / DAMAGED
    aside.mkdir(mode=0o700, exist_ok=True)
    for name in (path.name, path.with_suffix(".snap").name):
        if (directory / name).exists():
            (directory / name).replace(aside / name)
    _sync_directory(aside)
    _sync_directory(directory)
    return aside / path.name


def prune(directory: Path, keep: int) -> list[Manifest]:
    """Delete all but the newest ``keep`` snapshots, manifest first; returns those that stay.

    What has an unreadable manifest stays until as many newer ones are there.
    """
    good = manifests(directory)
    if len(good) >= keep:
        oldest = manifest_path(directory, good[keep - 1].sequence)
        for path in directory.glob(f"{PREFIX}*.json"):
            if path.name < oldest.name:
                path.unlink()
    for path in directory.glob(f"{PREFIX}*.snap*"):
        if not path.with_suffix(".json").exists():
            path.unlink()  # its manifest is gone or was never written
    return good[:keep]
