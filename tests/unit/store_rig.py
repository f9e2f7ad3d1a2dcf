"""A correlator's store with known content, its snapshots, ways to damage them. Holds no test."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from sda_pipeline.records.alert import EPOCH_SHIFT, KIND_RECORDS, Entry
from sda_pipeline.state.environment import DATA_FILE
from sda_pipeline.state.manifest import Manifest
from sda_pipeline.state.recovery import CORRELATOR, SNAPSHOTS
from sda_pipeline.state.snapshot import data_path, manifest_path, take_snapshot
from sda_pipeline.state.store import Changes, CorrelatorStore, Meta

EPOCH = 3
CATALOGUE = 0xC0FFEE


class Content(NamedTuple):
    """All that a store holds, as plain values."""

    rows: dict[tuple[str, int], bytes]
    positions: dict[str, bytes]
    alerts: dict[str, bytes]
    outbox: list[Entry]
    meta: Meta


def content_of(store: CorrelatorStore) -> Content:
    return Content(
        dict(store.rows()), store.positions(), store.alerts(), store.outbox(), store.meta
    )


def read_content(state: Path) -> Content:
    store = CorrelatorStore(state / CORRELATOR)
    try:
        return content_of(store)
    finally:
        store.close()


def step(number: int) -> Changes:
    """The changes of the ``number``-th commit: large and small values, deletions, a new entry."""
    rng = np.random.default_rng(number)
    end = (EPOCH << EPOCH_SHIFT) + number
    position = {"log_id": 7, "position": number}
    return Changes(
        rows=[(("radar", number), rng.bytes(272 * int(rng.integers(1, 30))))],
        rows_gone=[("radar", number - 8)] if number > 8 else [],
        positions={"radar": msgspec.msgpack.encode(position)},
        alerts={f"alert-{number % 5}": rng.bytes(1200)},
        alerts_gone=["alert-3"] if number % 7 == 0 else [],
        outbox=[Entry(end, KIND_RECORDS, 1, rng.bytes(900))],
        outbox_gone_through=end - 4,
        meta=Meta(
            catalogue=CATALOGUE, epoch=EPOCH, outbox_end=end, outbox_deleted=end - 4,
            closed_to=number,
        ),
    )  # fmt: skip


def fill(store: CorrelatorStore, first: int, last: int) -> None:
    """Commit steps ``first`` to ``last``."""
    for number in range(first, last + 1):
        store.commit(step(number), lambda: None)


def snapshot(state: Path, store: CorrelatorStore) -> Manifest:
    return take_snapshot(store, state / SNAPSHOTS, 0, lambda _: None)


def make_state(root: Path) -> tuple[Path, list[Content]]:
    """A state of twelve commits with snapshots after 4, 8, 10; its content after 4, 8, 10, 12."""
    state = root / "state"
    state.mkdir(mode=0o700)
    store = CorrelatorStore(state / CORRELATOR)
    contents = []
    for first, last in ((1, 4), (5, 8), (9, 10), (11, 12)):
        fill(store, first, last)
        contents.append(content_of(store))
        if last < 12:
            snapshot(state, store)
    store.close()
    return state, contents


def data_file(state: Path) -> Path:
    return state / CORRELATOR / DATA_FILE


def snapshot_file(state: Path, number: int) -> Path:
    """The data of the ``number``-th snapshot, 1 being the oldest."""
    return data_path(state / SNAPSHOTS, (EPOCH << EPOCH_SHIFT) + number)


def manifest_file(state: Path, number: int) -> Path:
    return manifest_path(state / SNAPSHOTS, (EPOCH << EPOCH_SHIFT) + number)


def flip(path: Path, needle: bytes = b"", *, at: int = 0) -> None:
    """Change one bit of a file: ``at`` bytes after the first ``needle``."""
    data = bytearray(path.read_bytes())
    where = data.index(needle) + at
    data[where] ^= 0x10
    path.write_bytes(data)
