"""A store from which quarantined rows were taken out is the store of a world without them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from operators.checkpoint import Checkpoints
from operators.core.correlation import Correlation
from operators.core.positions import SourcePosition
from operators.core.step_effects import Effects
from operators.held import take_out
from sda_pipeline.clock import ManualClock
from sda_pipeline.records.frames import Frame
from sda_pipeline.records.rows import ROW
from sda_pipeline.settings import Physics
from sda_pipeline.state.store import CorrelatorStore, Meta
from tests.property.correlator_rig import EVENT_TIME, HASH, SOURCES, make_frames, make_world
from tests.property.scene_rig import scene
from tests.property.test_quarantined_rows import finals

SEEDS = range(10)
Logs = dict[str, list[Frame]]


class Told:
    """What taking out needs of a worker."""

    def __init__(self, state: Path) -> None:
        self.topology = SimpleNamespace(state=state)
        self.events: list[dict[str, Any]] = []

    def event(self, _: str, **fields: Any) -> None:
        self.events.append(fields)


def fresh() -> Correlation:
    return Correlation(scene().catalogue, Physics(), EVENT_TIME, SOURCES, HASH)


def applied_half(logs: Logs, rng: np.random.Generator, store: CorrelatorStore) -> None:
    """Commit the first frames of each source, before anything was evaluated."""
    core, meta = fresh(), Meta(catalogue=HASH, epoch=1, outbox_end=1 << 32, outbox_deleted=1 << 32)
    checkpoints = Checkpoints(store, meta, ManualClock(0, 0))
    order = np.repeat(np.arange(len(SOURCES)), [len(logs[s]) // 2 for s in SOURCES])
    for at in rng.permutation(order).tolist():
        effects = Effects()
        source = SOURCES[at]
        core.apply([(source, logs[source][core.positions[source].position])], effects)
        checkpoints.commit(core, effects, 0, lambda: None)


def opened(store: CorrelatorStore, bad: dict[str, set[tuple[int, int, int]]]) -> Correlation:
    """The core as ``correlator_open`` rebuilds it, with what is in quarantine."""
    core = fresh()
    for source, data in store.positions().items():
        core.positions[source] = msgspec.msgpack.decode(data, type=SourcePosition)
    core.quarantined = bad
    return core


def worlds(seed: int) -> tuple[np.random.Generator, Logs]:
    rng = np.random.default_rng(seed)
    world = make_world(seed, 300, partitions=1)
    for parts in world.partitions.values():
        parts[0]["offset"] = np.arange(len(parts[0]))
    return rng, {source: make_frames(world, source, 0.2, rng) for source in SOURCES}


@pytest.mark.parametrize("seed", SEEDS)
def test_taking_out_equals_absence(seed: int, tmp_path: Path) -> None:
    rng, logs = worlds(seed)
    store = CorrelatorStore(tmp_path / "store")
    applied_half(logs, rng, store)
    held = [(s, row) for (s, _), data in store.rows() for row in np.frombuffer(data, ROW)]
    chosen = [held[at] for at in rng.choice(len(held), len(held) // 5, replace=False).tolist()]
    bad: dict[str, set[tuple[int, int, int]]] = {source: set() for source in SOURCES}
    for source, row in chosen:
        bad[source].add((0, 0, int(row["offset"])))

    core, worker = opened(store, bad), Told(tmp_path)
    take_out(worker, core, store)  # type: ignore[arg-type]
    assert [told["rows"] for told in worker.events] == [len(chosen)]
    again = opened(store, bad)
    take_out(worker, again, store)  # type: ignore[arg-type]
    assert len(worker.events) == 1, "a second time there is nothing to take out"
    assert again.positions == core.positions, "what changed is in the store"
    core.restore([(key, np.frombuffer(data, ROW)) for key, data in store.rows()])

    way = int(rng.integers(10**9))
    rest = finals(logs, core, np.random.default_rng(way))
    control = fresh()
    gone = {source: [o for _, _, o in bad[source]] for source in SOURCES}
    removed = {
        source: [
            Frame(f.header, f.parts, f.counts, f.rows[~np.isin(f.rows["offset"], gone[source])])
            for f in frames
        ]
        for source, frames in logs.items()
    }
    assert rest == finals(removed, control, np.random.default_rng(way))
    for source in SOURCES:
        mine = core.positions[source]
        assert mine.quarantined == len(bad[source])
        assert mine.classes() == mine.counts[1]
        assert min(mine.applied, mine.duplicate) >= 0
    for name in ("applied", "duplicate", "unpaired"):
        mine_all, theirs_all = (
            sum(getattr(p, name) for p in c.positions.values()) for c in (core, control)
        )
        assert mine_all == theirs_all, name


@pytest.mark.parametrize("seed", SEEDS)
def test_of_another_generation_nothing_is_taken(seed: int, tmp_path: Path) -> None:
    rng, logs = worlds(seed)
    store = CorrelatorStore(tmp_path / "store")
    applied_half(logs, rng, store)
    before = dict(store.rows())
    every = {(1, 0, offset) for offset in range(1000)} | {(0, 1, offset) for offset in range(1000)}
    take_out(Told(tmp_path), opened(store, dict.fromkeys(SOURCES, every)), store)  # type: ignore[arg-type]
    assert dict(store.rows()) == before
