"""Scenes for the reduction's tests: objects in sight of sites, numerical derivatives. No test."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sda_pipeline.astro import measurement
from sda_pipeline.astro.catalogue import prior_sigma
from sda_pipeline.astro.columns import F8, I8
from sda_pipeline.astro.measurement import Reduced
from sda_pipeline.astro.reference import (
    Site,
    gmst82,
    j2000_to_teme_for,
    pane_of,
    rtn_axes,
    site_teme,
)
from sda_pipeline.astro.trajectory import Trajectory
from sda_pipeline.settings import Physics
from tests.unit.orbit_rig import EPOCH_NS, mixed_catalogue

ARC = 0.01  # deg, a typical angle sigma
FLOOR = np.radians(0.001)
ANGLES = (True, True, False, False)  # of azimuth, elevation, range, rate; of ra, dec


class Scene(NamedTuple):
    """Objects, each seen from a site of its own well above the horizon."""

    t: I8
    r: F8
    v: F8
    place: tuple[F8, F8, F8]
    site: Site
    to_teme: F8
    prior: F8


def scene(count: int, seed: int = 0, *, zenith_deg: float = 60.0) -> Scene:
    """Sites scattered up to ``zenith_deg`` away from the point under the object."""
    rng = np.random.default_rng(seed)
    catalogue = mixed_catalogue()
    index = rng.integers(0, catalogue.n, count)
    t = EPOCH_NS + rng.integers(0, 10**13, count)
    r, v = Trajectory(catalogue).states(index, t)
    # For the site: where the object stands, moved by an angle that keeps it in sight.
    height = np.linalg.norm(r, axis=1)
    away = np.radians(rng.uniform(0.0, zenith_deg, count))
    earth = 6.4e6
    around = away - np.arcsin(earth / height * np.sin(away))  # earth-centred angle
    heading = rng.uniform(0.0, 2.0 * np.pi, count)
    axes = rtn_axes(r, v)
    up = axes[:, :, 0] * np.cos(around)[:, None] + np.sin(around)[:, None] * (
        axes[:, :, 1] * np.cos(heading)[:, None] + axes[:, :, 2] * np.sin(heading)[:, None]
    )
    lat = np.degrees(np.arcsin(up[:, 2]))
    lon = np.degrees(np.arctan2(up[:, 1], up[:, 0]) - gmst82(t, 0.0))
    place = (lat, lon, rng.uniform(0.0, 3e3, count))
    site = site_teme(t, *place, 0.0)
    prior = prior_sigma(catalogue, Physics())[index]
    return Scene(t, r, v, place, site, j2000_to_teme_for(pane_of(t)), prior)


def radar(
    at: Scene, measured: tuple[F8, F8, F8, F8], *,
    sigmas: tuple[float, ...] = (ARC, ARC, 20.0, 0.5), time_sigma: float = 0.0,
    floor: float = FLOOR,
) -> Reduced:  # fmt: skip
    ones = np.ones(len(at.r))
    return measurement.reduce_radar(
        at.r, at.v, at.site, *measured, *(ones * s for s in sigmas), ones * time_sigma, at.prior,
        ones * floor,
    )  # fmt: skip


def optical(at: Scene, ra: F8, dec: F8, *, sigma: float = ARC, time_sigma: float = 0.0) -> Reduced:
    ones = np.ones(len(at.r))
    return measurement.reduce_optical(
        at.r, at.v, at.site, ra, dec, ones * sigma, ones * sigma, ones * time_sigma, at.to_teme,
        at.prior,
    )  # fmt: skip


def full(info: F8) -> F8:
    """f8[m,21] as symmetric matrices."""
    out = np.zeros((len(info), 6, 6))
    low = np.tril_indices(6)
    out[:, low[0], low[1]] = info
    out[:, low[1], low[0]] = info
    return out


def turned(a: F8, b: F8) -> F8:
    """Difference of two angles in degrees, in radians, over the wrap."""
    return np.radians((a - b + 180.0) % 360.0 - 180.0)


def jacobian(forward: Callable[[F8, F8], list[F8]], at: Scene) -> F8:
    """d(measurement)/d(state) by central differences, f8[m,k,6]; angles as tangent arcs."""
    columns = []
    for n in range(6):
        step = np.zeros(6)
        step[n] = 10.0 if n < 3 else 0.1
        high = forward(at.r + step[:3], at.v + step[3:])
        low = forward(at.r - step[:3], at.v - step[3:])
        columns.append(
            [
                (turned(h, lo) if angle else h - lo) / (2.0 * step[n])
                for angle, (h, lo) in zip(ANGLES, zip(high, low, strict=True), strict=False)
            ]
        )
    return np.array(columns).transpose(2, 1, 0)


def same(got: F8, expected: F8, tolerance: float) -> bool:
    """Equal relative to the largest entry of each element's block of three by three."""
    scale = np.abs(expected).max(axis=tuple(range(1, expected.ndim)), keepdims=True)
    return bool(np.all(np.abs(got - expected) <= tolerance * scale))


def innovation_covariance(at: Scene, rows: F8, sigma: F8) -> F8:
    """H P H' + R with P diagonal in RTN, by matrices."""
    axes = np.zeros((len(at.r), 6, 6))
    axes[:, :3, :3] = axes[:, 3:, 3:] = rtn_axes(at.r, at.v)
    prior = axes * (at.prior * at.prior)[:, None, :] @ axes.transpose(0, 2, 1)
    return rows @ prior @ rows.transpose(0, 2, 1) + (sigma * sigma)[:, :, None] * np.eye(
        rows.shape[1]
    )
