"""The correlator without a quarantined row is the correlator of a world without that row."""

from __future__ import annotations

import numpy as np
import pytest

from operators.core.correlation import Correlation
from operators.core.quarantined import without
from operators.core.step_effects import Effects
from sda_pipeline.records.alert import canonical
from sda_pipeline.records.frames import Frame
from sda_pipeline.settings import Physics
from tests.property.correlator_rig import EVENT_TIME, HASH, SOURCES, make_frames, make_world
from tests.property.scene_rig import scene

PHYSICS = Physics()


def finals(
    logs: dict[str, list[Frame]], core: Correlation, rng: np.random.Generator
) -> dict[str, str]:
    """Apply what is not applied yet, interleaved by chance; the canonical finals."""
    left = [len(logs[s]) - core.positions[s].position for s in SOURCES]
    order = rng.permutation(np.repeat(np.arange(len(SOURCES)), left))
    found: dict[str, str] = {}
    for at in order.tolist():
        source = SOURCES[at]
        effects = Effects()
        core.apply([(source, logs[source][core.positions[source].position])], effects)
        core.evaluate(1, 0, effects)
        for emitted in effects.emitted:
            for record in emitted if isinstance(emitted, list) else []:
                if record["final"] and record["action"] == "insert":
                    found[record["alert_id"]] = canonical(record)
    return found


def fresh() -> Correlation:
    return Correlation(scene().catalogue, PHYSICS, EVENT_TIME, SOURCES, HASH)


@pytest.mark.parametrize("seed", range(12))
def test_skipping_rows_equals_their_absence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    world = make_world(seed, 300, partitions=1)
    for parts in world.partitions.values():
        parts[0]["offset"] = np.arange(len(parts[0]))
    logs = {source: make_frames(world, source, 0.2, rng) for source in SOURCES}
    core, removed = fresh(), {}
    bad: dict[str, set[tuple[int, int, int]]] = {}
    for source, frames in logs.items():
        offsets = np.concatenate([frame.rows["offset"] for frame in frames])
        chosen = rng.choice(offsets, len(offsets) // 5, replace=False)
        bad[source] = {(0, 0, int(offset)) for offset in chosen}
        removed[source] = [
            Frame(f.header, f.parts, f.counts, f.rows[~np.isin(f.rows["offset"], chosen)])
            for f in frames
        ]
    core.quarantined = bad
    way = int(rng.integers(10**9))
    with_them = finals(logs, core, np.random.default_rng(way))
    control = fresh()
    # Headers still tell of the rows; what is missing is counted as quarantined by the same rule.
    assert finals(removed, control, np.random.default_rng(way)) == with_them
    for source in SOURCES:
        mine, theirs = core.positions[source], control.positions[source]
        assert mine.quarantined == theirs.quarantined == len(bad[source])
        assert mine.classes() == mine.counts[1], "applied and all the others are the source's rows"
        assert (mine.applied, mine.unpaired, mine.duplicate) == (
            theirs.applied, theirs.unpaired, theirs.duplicate,
        )  # fmt: skip


def test_the_worlds_are_such_that_the_rows_matter() -> None:
    differs = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        world = make_world(seed, 300, partitions=1)
        for parts in world.partitions.values():
            parts[0]["offset"] = np.arange(len(parts[0]))
        logs = {source: make_frames(world, source, 0.2, rng) for source in SOURCES}
        core = fresh()
        core.quarantined = {s: {(0, 0, o) for o in range(0, 500, 5)} for s in SOURCES}
        way = int(rng.integers(10**9))
        some = finals(logs, core, np.random.default_rng(way))
        differs += some != finals(logs, fresh(), np.random.default_rng(way))
    assert differs >= 3


def test_another_generation_or_partition_is_another_record() -> None:
    world = make_world(1, 60, partitions=1)
    frames = make_frames(world, SOURCES[0], 0.1, np.random.default_rng(1))
    frame = next(f for f in frames if len(f.rows))
    offset = int(frame.rows["offset"][0])
    here = int((frame.rows["offset"] == offset).sum())
    assert without(frame, None) is frame.rows
    assert without(frame, {(1, 0, offset), (0, 1, offset)}) is frame.rows
    assert len(without(frame, {(0, 0, offset)})) == len(frame.rows) - here
