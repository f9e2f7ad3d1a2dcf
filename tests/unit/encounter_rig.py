"""Engineered encounters as two-line elements, and a slow search that finds them without panes."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from sgp4 import exporter
from sgp4.api import Satrec, SatrecArray
from sgp4.ext import rv2coe

from sda_pipeline.astro.catalogue import Catalogue
from tests.unit.orbit_rig import EPOCH_DAYS, EPOCH_NS, satrec

MU_KM = 398_600.8
DAY_S = 86_400.0
STEP_S = 0.05


class Minimum(NamedTuple):
    """A minimum of the distance of two catalogue objects (indices), from SGP4 positions alone."""

    low: int
    high: int
    tca_s: float  # after EPOCH_NS
    miss_m: float
    speed_m_s: float


def elements_through(satno: int, state_km: np.ndarray, seconds: float) -> str:
    """Two lines of the orbit whose SGP4 state ``seconds`` after the epoch is ``state_km`` (6,).

    Fixed point on a state that stands for the mean elements: J2's short periods are a thousandth.
    """
    epoch = EPOCH_DAYS + round(seconds / DAY_S, 8)  # the grid of two-line elements
    mean = state_km.copy()
    for _ in range(12):
        _, a, ecc, incl, node, perigee, _, anomaly, *_ = rv2coe(
            mean[:3].tolist(), mean[3:].tolist(), MU_KM
        )
        sat = satrec(
            satno,
            rev_per_day=float(np.sqrt(MU_KM / a**3)) * DAY_S / (2 * np.pi),
            eccentricity=float(ecc),
            angles=(incl, node, perigee, anomaly),
            epoch_days=epoch,
        )
        mean += state_km - state_at(sat, sat.jdsatepoch, sat.jdsatepochF)
    return "\n".join(exporter.export_tle(sat))


def state_at(sat: Satrec, day: float, fraction: float) -> np.ndarray:
    error, r, v = sat.sgp4(day, fraction)
    assert error == 0
    return np.array([*r, *v])


def partner(state_km: np.ndarray, angle: float, miss_km: float, drift_km_s: float) -> np.ndarray:
    """A state ``miss_km`` above, its velocity turned by ``angle`` about the vertical and raised."""
    r, v = state_km[:3], state_km[3:]
    up = r / np.linalg.norm(r)
    turned = (
        v * np.cos(angle) + np.cross(up, v) * np.sin(angle) + up * (up @ v) * (1 - np.cos(angle))
    )
    return np.concatenate((r + up * miss_km, turned + v / np.linalg.norm(v) * drift_km_s))


@cache
def engineered(first_satno: int = 101) -> str:
    """Twelve pairs that meet within two minutes: close, far, slow, fast, at the ends of panes."""
    wanted = [  # seconds, crossing angle (rad), miss (km), along-track drift (km/s)
        (12.3, 1.2, 0.03, 0.0), (17.0, 2.9, 1.5, 0.0), (31.0, 0.4, 4.0, 0.0),
        (40.0005, 1.8, 0.7, 0.0), (44.9995, 0.9, 6.0, 0.0), (58.0, 3.1, 9.5, 0.0),
        (63.0, 2.2, 10.5, 0.0), (71.5, 0.05, 2.0, 0.0), (80.0, 0.005, 1.0, 0.0),
        (91.0, 0.0, 0.8, 0.012), (97.0, 0.0, 0.5, 0.02), (113.0, 1.5, 40.0, 0.0),
    ]  # fmt: skip
    rng, lines = np.random.default_rng(6), []
    for n, (seconds, angle, miss, drift) in enumerate(wanted):
        sat = satrec(
            rev_per_day=rng.uniform(13.5, 15.2),
            eccentricity=0.002,
            angles=(rng.uniform(0.8, 1.7), *rng.uniform(0, 6.2, 3)),
        )
        state = state_at(sat, sat.jdsatepoch, sat.jdsatepochF)
        lines.append(elements_through(first_satno + 2 * n, state, seconds))
        other = partner(state, angle, miss, drift)
        lines.append(elements_through(first_satno + 2 * n + 1, other, seconds))
    return "\n".join(lines)


def minima(catalogue: Catalogue, seconds: float, within_m: float) -> list[Minimum]:
    """Every distance minimum below ``within_m`` in [0, seconds): fine steps, all pairs."""
    array = SatrecArray(catalogue.satrecs)
    steps = np.arange(-1, int(seconds / STEP_S) + 2) * STEP_S
    day = np.full(len(steps), 2_440_587.5 + EPOCH_NS / (DAY_S * 1e9))
    error, r, _ = array.sgp4(day, steps / DAY_S)
    assert not error.any()
    found = []
    for i in range(catalogue.n):
        for j in range(i + 1, catalogue.n):
            gap = np.sqrt(np.sum((r[j] - r[i]) ** 2, axis=1)) * 1000.0
            inner = (gap[1:-1] < gap[:-2]) & (gap[1:-1] <= gap[2:]) & (gap[1:-1] < within_m + 400.0)
            for k in (np.flatnonzero(inner) + 1).tolist():
                tca, miss, speed = _refine(catalogue, i, j, steps[k])
                if miss < within_m and 0 <= tca < seconds:
                    found.append(Minimum(i, j, tca, miss, speed))
    return found


def _refine(catalogue: Catalogue, i: int, j: int, near: float) -> tuple[float, float, float]:
    day = 2_440_587.5 + EPOCH_NS / (DAY_S * 1e9)

    def relative(t: float) -> np.ndarray:
        first, second = catalogue.satrecs[i], catalogue.satrecs[j]
        both = state_at(second, day, t / DAY_S) - state_at(first, day, t / DAY_S)
        return both * 1000.0

    best = minimize_scalar(
        lambda t: float(np.sum(relative(t)[:3] ** 2)),
        bounds=(near - STEP_S, near + STEP_S),
        method="bounded",
        options={"xatol": 1e-9},
    )
    at = relative(best.x)
    return best.x, float(np.linalg.norm(at[:3])), float(np.linalg.norm(at[3:]))
