"""The manifest of a snapshot, local and remote alike: what its data holds. Pure; no files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.state.store import FORMAT_VERSION

Offset = tuple[int, int, int]  # partition, generation, next offset


class Manifest(msgspec.Struct, kw_only=True):
    """What a snapshot holds; written after its data, so its presence means the data is whole."""

    format_version: int = FORMAT_VERSION
    sequence: int  # epoch << 32 | n
    created_ns: int
    epoch: int
    epoch_id: int = 0  # as in the store's meta
    catalogue: str
    closed_to: int
    positions: dict[str, int]  # source -> position
    log_ids: dict[str, int]
    # As of the same frames: a source that lost its log goes on from these at the broker.
    watermarks: dict[str, int] = {}  # ns
    offsets: dict[str, list[Offset]] = {}
    size_bytes: int
    sha256: str


class Unreadable(NamedTuple):
    """A manifest that cannot be read, or that nothing stands behind: no snapshot to trust."""

    path: Path
    why: str


class _Version(msgspec.Struct):
    format_version: int


def parse_manifest(data: bytes, path: Path, sequence: int) -> Manifest | Unreadable:
    """The manifest in ``data``, read from ``path``, whose name says ``sequence``.

    InvalidConfiguration when it has a newer format version.
    """
    try:
        version = msgspec.json.decode(data, type=_Version).format_version
        if version > FORMAT_VERSION:
            raise InvalidConfiguration(
                f"read the snapshot {path}",
                [f"it has format version {version}, this release reads {FORMAT_VERSION}"],
                "use the release that wrote it, or move it aside",
            )
        found = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        return Unreadable(path, f"its manifest cannot be read ({error})")
    if found.sequence != sequence:
        return Unreadable(path, f"its manifest says that it is {found.sequence}")
    return found


def watermarks_of(positions: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """The watermark of each source that has one, from its decoded entry in ``positions``."""
    found = {source: entry.get("watermark") for source, entry in positions.items()}
    return {source: mark for source, mark in found.items() if mark is not None}


def offsets_of(positions: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Offset]]:
    """Where each source stands in its partitions."""
    return {
        source: [(partition, generation, offset) for partition, generation, offset, _ in parts]
        for source, parts in ((s, entry.get("parts", ())) for s, entry in positions.items())
    }
