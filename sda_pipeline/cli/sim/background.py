"""A realistic mix of background orbits: who else is up there. Not the engineered encounters.

The shares follow today's catalogue roughly: sun-synchronous and 53-degree shells dominate, debris
fills 600-1400 km at high inclination, a few per cent are navigation, geostationary and highly
elliptical objects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sda_pipeline.astro.catalogue import DAY_NS
from sda_pipeline.cli.sim.mean_elements import MU_KM3_S2, Elements, on_grid

EARTH_KM = 6378.135  # WGS-72
PERIGEE_KM_MIN = 300.0


class OrbitClass(NamedTuple):
    """Uniform ranges of one family; ``perigee_km`` is an altitude."""

    name: str
    share: float
    perigee_km: tuple[float, float]
    eccentricity: tuple[float, float]
    inclination_deg: tuple[float, float]
    drag: bool = True


CLASSES = (
    OrbitClass("SSO", 0.26, (450.0, 1000.0), (0.0001, 0.004), (97.2, 99.5)),
    OrbitClass("SHELL-53", 0.22, (460.0, 620.0), (0.0001, 0.0005), (52.9, 53.3)),
    OrbitClass("SHELL-43", 0.06, (460.0, 620.0), (0.0001, 0.0005), (42.9, 43.1)),
    OrbitClass("POLAR", 0.16, (600.0, 1500.0), (0.0005, 0.01), (70.0, 88.5)),
    OrbitClass("DEBRIS", 0.22, (420.0, 1600.0), (0.001, 0.03), (62.0, 105.0)),
    OrbitClass("MEO", 0.03, (19_100.0, 23_300.0), (0.0005, 0.01), (54.0, 65.0), drag=False),
    OrbitClass("GEO", 0.03, (35_700.0, 35_790.0), (0.0001, 0.0006), (0.5, 12.0), drag=False),
    OrbitClass("HEO", 0.02, (400.0, 900.0), (0.60, 0.72), (5.0, 64.0), drag=False),
)  # fmt: skip

assert abs(sum(c.share for c in CLASSES) - 1.0) < 1e-9, "the shares are parts of one whole"
assert min(c.perigee_km[0] for c in CLASSES) >= PERIGEE_KM_MIN


def background_elements(
    rng: np.random.Generator, epoch_ns: int, satnos: Sequence[int]
) -> list[Elements]:
    """One mean element set per number, epochs in the day before ``epoch_ns``, families mixed."""
    count = len(satnos)
    family = rng.choice(len(CLASSES), size=count, p=[c.share for c in CLASSES])
    table = np.array([(*c.perigee_km, *c.eccentricity, *c.inclination_deg) for c in CLASSES])
    low, high = table[family][:, 0::2], table[family][:, 1::2]
    perigee, ecco, inclination = (low + (high - low) * rng.random((count, 3))).T
    angles = rng.random((count, 3)) * 2.0 * math.pi
    drag = np.array([c.drag for c in CLASSES])[family] * 10.0 ** rng.uniform(-5.0, -3.7, count)
    age = rng.integers(0, DAY_NS, count)
    motion = _mean_motion(perigee, ecco)
    return [
        Elements(
            satnos[k], f"{CLASSES[family[k]].name} {satnos[k]}",
            on_grid(int(epoch_ns - age[k])), float(motion[k]), float(ecco[k]),
            math.radians(inclination[k]), *_three(angles[k]), bstar=float(drag[k]),
        )
        for k in range(count)
    ]  # fmt: skip


def _three(row: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    return float(row[0]), float(row[1]), float(row[2])


def _mean_motion(
    perigee_km: npt.NDArray[np.float64], ecco: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Mean motion (rad/min) of orbits with these perigee altitudes and eccentricities."""
    a = (perigee_km + EARTH_KM) / (1.0 - ecco)
    return 60.0 * np.sqrt(MU_KM3_S2 / (a * a * a))
