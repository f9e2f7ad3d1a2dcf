"""A small catalogue, sensors and messages that agree with them, for tests of what a source does."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import orjson

from operators.core.reduction import Reducer
from sda_pipeline.astro.measurement import predict_optical, predict_radar
from sda_pipeline.astro.reference import j2000_to_teme_for, pane_of, site_teme
from sda_pipeline.astro.trajectory import Trajectory
from sda_pipeline.records.observations import (
    Envelope,
    encode_isl,
    encode_optical,
    encode_radar,
)
from sda_pipeline.records.times import format_times
from sda_pipeline.sensors import SensorRegistry, parse_sensors
from sda_pipeline.settings import ISL, KIND_NAMES, OPTICAL, RADAR, Physics
from tests.unit.orbit_rig import EPOCH_NS, mixed_catalogue

START_NS = EPOCH_NS + 3_600 * 10**9
KINDS = (RADAR, OPTICAL, ISL)
LATENCY_MS = 20
SIGMAS = {
    RADAR: {
        "azimuth_unc": 0.02,
        "elevation_unc": 0.02,
        "range_unc": 0.02,
        "range_rate_unc": 0.0002,
    },
    OPTICAL: {"ra_unc": 0.002, "declination_unc": 0.003},
    ISL: {"pos_unc": 0.03, "vel_unc": 0.0001},
}
SITES = [(60.0, 20.0), (-30.0, 140.0), (5.0, -60.0), (45.0, -120.0), (-45.0, 10.0), (20.0, 80.0)]

Values = list[bytes]
Fields = dict[str, Any]


def sensors() -> SensorRegistry:
    """Six radars, six telescopes, two links."""
    entries: dict[str, dict[str, object]] = {}
    for kind in (RADAR, OPTICAL):
        for n, (lat, lon) in enumerate(SITES):
            site = {"lat": lat, "lon": lon, "alt_m": 100.0 * n}
            entries[f"{KIND_NAMES[kind]}-{n}"] = {"kind": KIND_NAMES[kind], **site, **SIGMAS[kind]}
    for n in range(2):
        entries[f"isl-{n}"] = {"kind": "isl", **SIGMAS[ISL]}
    return parse_sensors({"sensors": entries})


def reducer(kind: int, physics: Physics = Physics()) -> Reducer:  # noqa: B008 - frozen
    """A fresh reducer over the mixed catalogue."""
    catalogue = mixed_catalogue()
    return Reducer(kind, catalogue, Trajectory(catalogue), sensors(), physics)


class Shots(NamedTuple):
    """Who was seen by whom, when."""

    object: np.ndarray
    sensor: np.ndarray
    t: np.ndarray


def shots(kind: int, count: int, rng: np.random.Generator, span_s: int = 12) -> Shots:
    """Random sightings above the horizon, in time order."""
    catalogue, registry = mixed_catalogue(), sensors()
    m = 60 * count + 600
    index = rng.integers(0, catalogue.n, m)
    sensor = rng.choice(registry.of_kind(kind), m)
    t = np.sort(START_NS + rng.integers(0, span_s * 10**9, m))
    if kind == ISL:
        seen = np.arange(m)
    else:
        r, v = Trajectory(catalogue).states(index, t)
        site = site_teme(t, *(registry.column(c)[sensor] for c in ("lat", "lon", "alt_m")), 0.0)
        _, elevation, distance, _ = predict_radar(r, v, site)
        seen = np.flatnonzero((elevation > 5.0) & (distance < 9e7))
    assert len(seen) >= count
    seen = seen[np.linspace(0, len(seen) - 1, count).astype(int)]
    return Shots(index[seen], sensor[seen], t[seen])


@cache
def messages(kind: int, count: int, seed: int = 1, noise: float = 1.0) -> tuple[Values, np.ndarray]:
    """Valid messages of a kind in time order, and their broker timestamps (count,) ms."""
    rng = np.random.default_rng(seed)
    shot = shots(kind, count, rng)
    catalogue, registry = mixed_catalogue(), sensors()
    r, v = Trajectory(catalogue).states(shot.object, shot.t)
    exact = _exact(kind, shot, r, v)
    deviations = np.array(list(SIGMAS[kind].values()) if kind != ISL else [0.03] * 3 + [1e-4] * 3)
    measured = exact + noise * deviations * rng.standard_normal(exact.shape)
    values = []
    for k, time in enumerate(format_times(shot.t)):
        uuid = str(UUID(bytes=rng.bytes(16)))
        satno, sensor = int(catalogue.satno[shot.object[k]]), registry.ids[shot.sensor[k]]
        envelope = Envelope(uuid, satno, sensor, time)
        values.append(_ENCODE[kind](envelope, measured[k].tolist(), k))
    return values, shot.t // 1_000_000 + LATENCY_MS


def _exact(kind: int, shot: Shots, r: np.ndarray, v: np.ndarray) -> np.ndarray:
    registry = sensors()
    if kind == ISL:
        return np.concatenate([r, v], axis=1) / 1000.0
    place = (registry.column(name)[shot.sensor] for name in ("lat", "lon", "alt_m"))
    site = site_teme(shot.t, *place, 0.0)
    if kind == RADAR:
        azimuth, elevation, distance, rate = predict_radar(r, v, site)
        return np.stack([azimuth, elevation, distance / 1000.0, rate / 1000.0], axis=1)
    to_teme = j2000_to_teme_for(pane_of(shot.t))
    return np.stack(predict_optical(r, v, site, to_teme), axis=1)


def _radar(envelope: Envelope, row: list[float], k: int) -> bytes:
    row[1] = min(row[1], 90.0)
    own = {"rangeUnc": 0.025, "timeUnc": 0.0005} if k % 3 == 0 else None
    return encode_radar(envelope, *row[: 3 if k % 4 == 0 else 4], optional=own)


def _optical(envelope: Envelope, row: list[float], k: int) -> bytes:
    own = {"raUnc": 0.002, "priority": "HIGH"} if k % 3 == 0 else None
    return encode_optical(envelope, *row, optional=own)


def _isl(envelope: Envelope, row: list[float], k: int) -> bytes:
    if k % 3 == 0:
        return encode_isl(envelope, row[:3], row[3:], cov=diagonal_cov(0.03, 1e-4))
    return encode_isl(envelope, row[:3], row[3:], optional={"posUnc": 0.04} if k % 3 == 1 else {})


_ENCODE: dict[int, Callable[[Envelope, list[float], int], bytes]] = {
    RADAR: _radar,
    OPTICAL: _optical,
    ISL: _isl,
}


def diagonal_cov(pos_km: float, vel_km_s: float) -> list[float]:
    """21 terms of a diagonal covariance."""
    cov = np.zeros(21)
    cov[[0, 2, 5]], cov[[9, 14, 20]] = pos_km * pos_km, vel_km_s * vel_km_s
    return cov.tolist()


def one(kind: int, at: int = 1) -> tuple[Fields, int]:
    """The fields of one noise-free message of a kind, and its broker timestamp in ms."""
    values, timestamps = messages(kind, 8, noise=0.0)
    return orjson.loads(values[at]), int(timestamps[at])
