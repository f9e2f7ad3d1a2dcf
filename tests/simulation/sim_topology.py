"""The pipeline that is simulated: its operators, and rings of drawn sizes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from sda_pipeline.limits import RING_FRAMES_MIN, ROW_BYTES
from sda_pipeline.settings import EventTime
from sda_pipeline.topology import EdgeSpec, OperatorSpec, Topology
from tests.simulation.dice import Dice
from tests.simulation.sim_catalogue import PHYSICS
from tests.simulation.story import SOURCES

JOINED = 2  # a source joins what it consumed with what came while it lingered
FRAME_OVERHEAD_BYTES = 320  # header, parts and counts, with room to spare
ENTRY_BYTES_MAX = 2_600  # a retract + insert pair
NEVER_S = 1e9
_CHAIN = ("normalize", "prioritize", "correlator", "alert-sink", "subscriber")
_EDGES = [
    *((source, "normalize") for source in SOURCES),
    *pairwise(_CHAIN),
    *((source, "dlq-sink") for source in SOURCES),
]


def draw_topology(root: Path, cut_max: int, dice: Dice) -> Topology:
    """The picture of DESIGN 2 with two sources; rings from just large enough to roomy."""
    inputs: dict[str, list[str]] = {}
    for source, target in _EDGES:
        inputs.setdefault(target, []).append(source)
    names = (*SOURCES, *_CHAIN, "dlq-sink", "replicator")
    kinds = {source: f"{source}-source" for source in SOURCES}
    return Topology(
        pipeline="simulation",
        state=root,
        broker="simulated:",
        catalogue=root,
        sensors=root,
        subscriber=root / "subscriber",
        physics=PHYSICS,
        event_time=EventTime(idle_after_s=None),
        snapshot_every_s=dice.pick((NEVER_S, 0.05, 0.1)),
        disk_reserve_bytes=0,
        log_retention_s=0.0,
        operators=tuple(
            OperatorSpec(n, kinds.get(n, n), n if n in SOURCES else None, tuple(inputs.get(n, ())))
            for n in names
        ),
        edges=tuple(EdgeSpec(f"{a}->{b}", a, b, _capacity(a, cut_max, dice)) for a, b in _EDGES),
    )


def _capacity(source: str, cut_max: int, dice: Dice) -> int:
    """From just enough for four of the largest frames, so that rings are full now and then."""
    rows_bytes = JOINED * cut_max * ROW_BYTES + FRAME_OVERHEAD_BYTES
    largest = ENTRY_BYTES_MAX if source in ("correlator", "alert-sink") else rows_bytes
    return RING_FRAMES_MIN * largest * dice.pick((1, 1, 2, 8))
