"""A small synthetic world for the simulator's tests, and the real reduction to judge it by."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from operators.core.reduction import ReducedBatch, Reducer
from sda_pipeline.astro.trajectory import Trajectory
from sda_pipeline.cli.sim.default_sensors import default_registry
from sda_pipeline.cli.sim.population import Synthetic, synthesize
from sda_pipeline.cli.sim.scene import Scene, make_scene
from sda_pipeline.cli.sim.traffic import Message, Options
from sda_pipeline.records.observations import TOPICS

EPOCH_NS = 1_775_001_600_000_000_000  # 2026-04-01
SECOND = 1_000_000_000
ENCOUNTERS = 80  # 40 a minute for two minutes


@cache
def world(*, on_catalogue: bool = False) -> Synthetic:
    return synthesize(
        3, EPOCH_NS, 260, sensors=default_registry(), minutes=2.0, per_minute=40.0,
        on_catalogue=on_catalogue,
    )  # fmt: skip


@cache
def scene(*, on_catalogue: bool = False) -> Scene:
    made = world(on_catalogue=on_catalogue)
    return make_scene(made.elements, default_registry(), made.truth)


def span(start_s: float, end_s: float, **options: object) -> Options:
    """Options for a span in seconds after the epoch."""
    start, end = (EPOCH_NS + round(s * SECOND) for s in (start_s, end_s))
    return Options(start_ns=start, end_ns=end, **options)  # type: ignore[arg-type]


def reduced(
    of: Scene, messages: Sequence[Message]
) -> dict[int, tuple[list[Message], ReducedBatch]]:
    """The pipeline's own verdict on messages, by kind, with the messages of that kind."""
    found: dict[int, tuple[list[Message], ReducedBatch]] = {}
    for kind, topic in TOPICS.items():
        mine = [m for m in messages if m.topic == topic]
        reducer = Reducer(
            kind, of.catalogue, Trajectory(of.catalogue), of.sites.registry, of.physics
        )
        stamps = np.array([m.timestamp_ms for m in mine], np.int64)
        found[kind] = mine, reducer.reduce([m.value for m in mine], stamps)
    return found
