"""Open the correlator's store only if every page and every value of it is what was written.

What is done when it is not is ``recovery.py``.
"""

from __future__ import annotations

import struct
from pathlib import Path

from sda_pipeline.errors import InvalidConfiguration, StateCorrupt, Unreachable
from sda_pipeline.state.environment import DATA_FILE, damage_of
from sda_pipeline.state.store import CorrelatorStore

_LMDB_MAGIC, _LMDB_VERSION = 0xBEEFC0DE, 1
_PAGE_BYTES = 4096  # the second meta page begins there
_LMDB_META = struct.Struct("=II")  # magic, data version; after a page header of 16 or 24 bytes


def open_intact(directory: Path) -> CorrelatorStore:
    """The store in a directory, every page and every value verified.

    StateCorrupt when one is not what was written, InvalidConfiguration when a newer release wrote
    it, Unreachable when the directory cannot be used.
    """
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
