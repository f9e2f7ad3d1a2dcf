"""The simulation's sky: a few objects with engineered encounters within a minute. No messages."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from sda_pipeline.astro.catalogue import Catalogue, parse_catalogue
from sda_pipeline.astro.encounter import NodeCache, Scheduled, schedule_pane
from sda_pipeline.cli.sim.mean_elements import (
    Elements,
    element_lines,
    make_satrec,
    mean_elements,
    on_grid,
    state,
)
from sda_pipeline.limits import PANE_NS, SECOND_NS
from sda_pipeline.settings import Physics

T0_NS = on_grid(1_775_001_600_000_000_000)  # 2026-04-01
PHYSICS = Physics()
IDLE_OBJECT = 201  # without encounters
# satNo: (the other's satNo, seconds after T0, angle between the velocities deg, miss m). 105 meets
# two others, so that one row belongs to two encounters.
PARTNERS = {
    102: (101, 22.0, 70.0, 120.0),
    105: (104, 34.999, 25.0, 40.0),
    107: (106, 41.0, 95.0, 60.0),
    103: (105, 52.0, 110.0, 250.0),
}
SPAN_S = 60


class Sky(NamedTuple):
    """The catalogue and its encounters, by time."""

    catalogue: Catalogue
    encounters: list[Scheduled]


@cache
def sky() -> Sky:
    """Always the same."""
    rng = np.random.default_rng(11)
    orbits = {satno: _background(rng, satno) for satno in (101, 104, 106, IDLE_OBJECT)}
    for satno, how in PARTNERS.items():
        orbits[satno] = _partner(satno, orbits[how[0]], *how[1:])
    text = "".join(f"{line}\n" for satno in sorted(orbits) for line in element_lines(orbits[satno]))
    catalogue = parse_catalogue(text, "tle")
    nodes = NodeCache(catalogue)
    first = T0_NS // PANE_NS
    panes = range(first, first + SPAN_S * SECOND_NS // PANE_NS)
    found = [e for p in panes for e in schedule_pane(catalogue, p, PHYSICS, nodes).encounters]
    assert len(found) == len(PARTNERS), "each partner meets its other, and nobody else"
    return Sky(catalogue, found)


def _background(rng: np.random.Generator, satno: int) -> Elements:
    """A low orbit anywhere."""
    motion = rng.uniform(14.2, 15.0) * 2.0 * np.pi / 1440.0
    eccentricity, inclination = rng.uniform(5e-4, 5e-3), rng.uniform(0.7, 1.7)
    angles = rng.uniform(0.0, 2.0 * np.pi, 3)
    return Elements(satno, f"S{satno}", T0_NS, motion, eccentricity, inclination, *angles)


def _partner(
    satno: int, other: Elements, after_s: float, angle_deg: float, miss_m: float
) -> Elements:
    """An orbit that passes above the other at T0 + after_s, turned about the vertical."""
    t = on_grid(T0_NS + round(after_s * SECOND_NS))
    r, v = state(make_satrec(other), t)
    up, angle = r / np.linalg.norm(r), np.radians(angle_deg)
    turned = (
        v * np.cos(angle) + np.cross(up, v) * np.sin(angle) + up * (up @ v) * (1 - np.cos(angle))
    )
    return mean_elements(satno, f"S{satno}", t, r + miss_m * up, turned)
