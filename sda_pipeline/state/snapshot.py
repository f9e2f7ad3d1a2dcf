"""Local snapshots of the correlator's store: temp file, sync, rename, manifest last. Not their
upload.

``snapshots/correlator-<sequence>.snap`` is a compact LMDB file; ``.json`` beside it says what it
holds.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import msgspec
import orjson

from sda_pipeline.errors import SdaError
from sda_pipeline.limits import MIB
from sda_pipeline.state.store import FORMAT_VERSION, CorrelatorStore

CHUNK_BYTES = 1 * MIB  # written at a time, so that a large copy does not hog the disk
PREFIX = "correlator-"


class Manifest(msgspec.Struct, kw_only=True):
    """What a snapshot holds; written after its data, so its presence means the data is whole."""

    format_version: int = FORMAT_VERSION
    sequence: int  # epoch << 32 | n
    created_ns: int
    epoch: int
    catalogue: str
    closed_to: int
    positions: dict[str, int]  # source -> position
    log_ids: dict[str, int]
    size_bytes: int
    sha256: str


def manifests(directory: Path) -> list[Manifest]:
    """The readable manifests of a snapshot directory, newest first."""
    found = []
    for path in directory.glob(f"{PREFIX}*.json"):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Manifest))
        except msgspec.MsgspecError:
            continue  # a damaged manifest is no snapshot; recovery names it when it looks for one
    return sorted(found, key=lambda manifest: manifest.sequence, reverse=True)


def data_path(directory: Path, sequence: int) -> Path:
    """Where the data of a snapshot lies."""
    return directory / f"{PREFIX}{sequence:020d}.snap"


def manifest_path(directory: Path, sequence: int) -> Path:
    """Where the manifest of a snapshot lies."""
    return directory / f"{PREFIX}{sequence:020d}.json"


def _stream(env: lmdb.Environment) -> Iterator[bytes]:
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


def _publish(path: Path, chunks: Iterator[bytes], inside: Callable[[], None]) -> tuple[int, str]:
    """Write a file by temp + sync + rename + directory sync; returns its size and SHA-256."""
    temporary = path.with_name(f"{path.name}.tmp")
    size, digest = 0, hashlib.sha256()
    with temporary.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
            size += len(chunk)
            digest.update(chunk)
            file.flush()
            inside()
        os.fsync(file.fileno())
    temporary.rename(path)
    _sync_directory(path.parent)
    return size, digest.hexdigest()


def take_snapshot(
    store: CorrelatorStore, directory: Path, now_ns: int, hit: Callable[[str], None]
) -> Manifest:
    """Copy the store into a new snapshot; ``hit`` is called with the name of each step's
    failpoint.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    for leftover in directory.glob("*.tmp"):
        leftover.unlink()  # a killed writer's; never had a manifest
    numbers = [m.sequence & 0xFFFFFFFF for m in manifests(directory)]
    sequence = (store.reload_meta().epoch << 32) | (max(numbers, default=0) + 1)
    path = data_path(directory, sequence)
    hit("after_begin")
    # 1 data: temp file, sync, rename, directory sync
    size, digest = _publish(path, _stream(store.env), lambda: hit("inside_write"))
    hit("after_write")
    # 2 manifest, last: read from the copy itself, so it says what the copy holds
    copy = CorrelatorStore(path, readonly=True, single_file=True)
    try:
        positions = {s: msgspec.msgpack.decode(data) for s, data in copy.positions().items()}
        meta = copy.meta
    finally:
        copy.close()
    manifest = Manifest(
        sequence=sequence, created_ns=now_ns, epoch=meta.epoch, catalogue=f"{meta.catalogue:016x}",
        closed_to=meta.closed_to, positions={s: p["position"] for s, p in positions.items()},
        log_ids={s: p["log_id"] for s, p in positions.items()}, size_bytes=size, sha256=digest,
    )  # fmt: skip
    data = orjson.dumps(msgspec.to_builtins(manifest), option=orjson.OPT_INDENT_2)
    _publish(manifest_path(directory, sequence), iter([data]), lambda: None)
    hit("after_rename")
    return manifest


def prune(directory: Path, keep: int) -> list[Manifest]:
    """Delete all but the newest ``keep`` snapshots, manifest first; returns those that stay."""
    found = manifests(directory)
    for old in found[keep:]:
        manifest_path(directory, old.sequence).unlink(missing_ok=True)
        data_path(directory, old.sequence).unlink(missing_ok=True)
    known = {data_path(directory, manifest.sequence) for manifest in found[:keep]}
    for path in directory.glob(f"{PREFIX}*.snap"):
        if path not in known:
            path.unlink()  # data whose manifest was never written
    return found[:keep]
