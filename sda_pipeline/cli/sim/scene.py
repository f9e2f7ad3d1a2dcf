"""What a simulation looks at: catalogue, sensors, settings and truth, put together.

Generates nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sda_pipeline.astro.catalogue import Catalogue, parse_catalogue
from sda_pipeline.cli.sim.census import without_offsets
from sda_pipeline.cli.sim.truth import Encounter, Truth, offset_table, read_truth, truth_path
from sda_pipeline.cli.sim.visibility import Sites
from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.records.observations import TOPICS
from sda_pipeline.sensors import SensorRegistry
from sda_pipeline.settings import KIND_CODES, EventTime, Physics
from sda_pipeline.topology import SOURCE_KINDS, Topology, load_inputs


class Scene(NamedTuple):
    """The world the traffic observes.

    ``offsets`` c (n,3) m by catalogue index; zeros: on the catalogue.
    """

    catalogue: Catalogue
    sites: Sites
    physics: Physics
    event_time: EventTime
    topics: dict[int, tuple[str, ...]]  # by kind; a sensor always uses the same one
    offsets: npt.NDArray[np.float64]
    encounters: tuple[Encounter, ...]


def make_scene(
    elements: str,
    sensors: SensorRegistry,
    truth: Truth | None,
    *,
    on_catalogue: bool = False,
    physics: Physics | None = None,
    event_time: EventTime | None = None,
) -> Scene:
    """A scene from two- or three-line elements in memory, with SPEC's topics: for tests."""
    catalogue = parse_catalogue(elements, "tle")
    if on_catalogue and truth is not None:
        truth = without_offsets(truth, catalogue)
    return Scene(
        catalogue, Sites.of(sensors), physics or Physics(), event_time or EventTime(),
        {kind: (topic,) for kind, topic in TOPICS.items()},
        offset_table(catalogue.satno, truth),
        truth.encounters if truth else (),
    )  # fmt: skip


def source_topics(topology: Topology) -> dict[int, tuple[str, ...]]:
    """The input topics by kind of observation."""
    found: dict[int, tuple[str, ...]] = {}
    for spec in topology.operators:
        if spec.kind in SOURCE_KINDS and spec.topic is not None:
            kind = KIND_CODES[SOURCE_KINDS[spec.kind]]
            found[kind] = (*found.get(kind, ()), spec.topic)
    return found


def load_scene(
    topology: Topology, truth_file: Path | None, *, on_catalogue: bool
) -> tuple[Scene, Truth | None]:
    """The topology's scene and its truth file (by default the one beside the catalogue).

    With ``on_catalogue`` a truth file is optional, every c is 0 and the encounters are as they
    are then. InvalidConfiguration when a file is missing, wrong, or the truth is another
    catalogue's.
    """
    inputs = load_inputs(topology)
    path = truth_file or truth_path(topology.catalogue)
    truth = None
    if truth_file is not None or path.exists() or not on_catalogue:
        try:
            truth = read_truth(path, topology.catalogue.read_bytes())
        except InvalidConfiguration:
            if truth_file is not None or not on_catalogue:
                raise
    if on_catalogue and truth is not None:
        truth = without_offsets(truth, inputs.catalogue)
    topics = source_topics(topology)
    sites = Sites.of(inputs.sensors, topics)
    if not sites.active.any():
        raise InvalidConfiguration(
            "observe anything",
            [f"no sensor in {topology.sensors} is of a kind that has a source in the topology"],
            "add sensors or sources",
        )
    scene = Scene(
        inputs.catalogue, sites, topology.physics, topology.event_time, topics,
        offset_table(inputs.catalogue.satno, truth), truth.encounters if truth else (),
    )  # fmt: skip
    return scene, truth
