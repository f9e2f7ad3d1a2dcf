"""Monte-Carlo trials of one encounter: true deviations, what sensors say of them, rows. No tests.

The encounter is Iridium 33 / Cosmos 2251. Per trial and object the truth is the catalogue plus a
draw of the whole 6-D prior at TCA, carried to each observation by two-body dynamics; observations
go through the wire format and the real reduction.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from operators.core.reduction import Reducer
from sda_pipeline.astro.catalogue import Catalogue, parse_catalogue, prior_sigma
from sda_pipeline.astro.encounter import Scheduled, schedule_pane
from sda_pipeline.astro.measurement import predict_optical, predict_radar
from sda_pipeline.astro.reference import MU, j2000_to_teme_for, pane_of, rtn_axes, site_teme
from sda_pipeline.astro.trajectory import Trajectory
from sda_pipeline.limits import PANE_NS, WINDOW_PANES
from sda_pipeline.records.observations import Envelope, encode_isl, encode_optical, encode_radar
from sda_pipeline.records.rows import Rows
from sda_pipeline.records.times import format_times
from sda_pipeline.sensors import SensorRegistry, parse_sensors
from sda_pipeline.settings import ISL, OPTICAL, RADAR, Physics

ELEMENTS = Path(__file__).parents[1] / "fixtures" / "iridium33-cosmos2251.tle"
COLLISION_NS = 1_234_284_959_795_800_000
PHYSICS = Physics()
OVER = (72.5, 97.9)  # the Taimyr peninsula, under the collision
SITES = 8


class Noise(NamedTuple):
    """One sigma in wire units: radar, optical (deg), ISL."""

    radar: tuple[float, float, float, float]
    optical: float
    isl: tuple[float, float]


GOOD = Noise((0.01, 0.01, 0.010, 0.0001), 0.001, (0.030, 0.0001))  # as sensors.yaml
COARSE = Noise((0.05, 0.05, 0.050, 0.0010), 0.010, (0.050, 0.0010))


class Trials(NamedTuple):
    """``rows`` belong to trial ``owner``; ``truth`` (2 trials, 6): low, high, low, high ..."""

    rows: Rows
    owner: np.ndarray
    truth: np.ndarray


class Shots(NamedTuple):
    """True states seen by sensors: names, registry indices, times, r, v."""

    envelopes: list[Envelope]
    sensor: np.ndarray
    t: np.ndarray
    r: np.ndarray
    v: np.ndarray


@cache
def catalogue() -> Catalogue:
    return parse_catalogue(ELEMENTS.read_text(), "tle")


@cache
def collision() -> Scheduled:
    (found,) = schedule_pane(catalogue(), pane_of(COLLISION_NS), PHYSICS).encounters
    return found


@cache
def sensors(noise: Noise) -> SensorRegistry:
    """Radars and telescopes around the place, one link; exact clocks."""
    rng = np.random.default_rng(5)
    entries: dict[str, dict[str, object]] = {}
    names = ("azimuth_unc", "elevation_unc", "range_unc", "range_rate_unc")
    for n in range(SITES):
        lat, lon = OVER[0] + rng.uniform(-8, 8), OVER[1] + rng.uniform(-20, 20)
        place = {"lat": lat, "lon": lon, "alt_m": 100.0 * n, "time_sigma_s": 0.0}
        entries[f"R{n}"] = {"kind": "radar", **place, **dict(zip(names, noise.radar, strict=True))}
        angles = {"ra_unc": noise.optical, "declination_unc": noise.optical}
        entries[f"O{n}"] = {"kind": "optical", **place, **angles}
    pos, vel = noise.isl
    entries["I"] = {"kind": "isl", "pos_unc": pos, "vel_unc": vel, "time_sigma_s": 0.0}
    return parse_sensors({"sensors": entries})


def carried(r: np.ndarray, v: np.ndarray, deviation: np.ndarray, dt_s: np.ndarray) -> np.ndarray:
    """Deviations (m, 6) from r, v (m, 3) ``dt_s`` (m,) later, both paths by two-body dynamics."""

    def slope(_: float, flat: np.ndarray) -> np.ndarray:
        pos, vel, dpos, dvel = flat.reshape(4, -1, 3)

        def pull(at: np.ndarray) -> np.ndarray:
            return -MU * at / np.linalg.norm(at, axis=1)[:, None] ** 3

        rates = np.stack((vel, pull(pos), dvel, pull(pos + dpos) - pull(pos)))
        return (rates * dt_s[None, :, None]).ravel()  # type: ignore[no-any-return]

    start = np.stack((r, v, deviation[:, :3], deviation[:, 3:]))
    end = solve_ivp(slope, (0.0, 1.0), start.ravel(), method="DOP853", rtol=1e-9, atol=1e-6)
    _, _, dpos, dvel = end.y[:, -1].reshape(4, -1, 3)
    return np.hstack((dpos, dvel))


def report(kind: int, shots: Shots, noise: Noise, rng: np.random.Generator) -> list[bytes]:
    """What sensors of a kind say of true states, with their noise, as messages."""
    registry, m = sensors(noise), len(shots.t)
    if kind == ISL:
        sigma = np.repeat(noise.isl, 3)
        seen = np.hstack((shots.r, shots.v)) / 1e3 + rng.normal(size=(m, 6)) * sigma
        return [
            encode_isl(envelope, row[:3], row[3:])
            for envelope, row in zip(shots.envelopes, seen.tolist(), strict=True)
        ]
    place = (registry.column(name)[shots.sensor] for name in ("lat", "lon", "alt_m"))
    site = site_teme(shots.t, *place, PHYSICS.dut1_s)
    if kind == RADAR:
        seen = np.stack(predict_radar(shots.r, shots.v, site), axis=1)
        seen[:, 2:] /= 1e3
        seen += rng.normal(size=(m, 4)) * np.array(noise.radar)
        rows = zip(shots.envelopes, seen.tolist(), strict=True)
        return [encode_radar(envelope, *row) for envelope, row in rows]
    to_teme = j2000_to_teme_for(pane_of(shots.t))
    seen = np.stack(predict_optical(shots.r, shots.v, site, to_teme), axis=1)
    error = rng.normal(size=(m, 2)) * noise.optical
    error[:, 0] /= np.cos(np.radians(seen[:, 1]))  # raUnc is on the sky
    rows = zip(shots.envelopes, (seen + error).tolist(), strict=True)
    return [encode_optical(envelope, *row) for envelope, row in rows]


@cache
def make_trials(
    n_obs: int, noise: Noise, kinds: tuple[int, ...], *, trials: int = 400, seed: int = 1
) -> Trials:
    """``n_obs`` observations of each object per trial, over the six panes up to TCA."""
    rng = np.random.default_rng([seed, n_obs])
    event, objects = collision(), np.tile([0, 1], trials)  # low is object 0 of the catalogue
    r_tca = np.where(objects[:, None] == 0, event.r1, event.r2)
    v_tca = np.where(objects[:, None] == 0, event.v1, event.v2)
    axes = rtn_axes(r_tca, v_tca)
    draw = rng.normal(size=(2 * trials, 6)) * prior_sigma(catalogue(), PHYSICS)[objects]
    truth = np.hstack([(axes @ draw[:, k : k + 3, None])[:, :, 0] for k in (0, 3)])

    who = np.repeat(np.arange(2 * trials), n_obs)
    first = (pane_of(event.tca_ns) - WINDOW_PANES + 1) * PANE_NS
    t = rng.integers(first, event.tca_ns, len(who))
    trajectory = Trajectory(catalogue())
    r, v = trajectory.states(objects[who], t)
    moved = carried(r_tca[who], v_tca[who], truth[who], (t - event.tca_ns) / 1e9)
    kind, times = rng.choice(kinds, len(who)), format_times(t)
    rows, owner = [], []
    for k in kinds:
        mine = np.flatnonzero(kind == k)
        sensor = rng.choice(sensors(noise).of_kind(k), len(mine))
        envelopes = [
            Envelope(
                f"{n:08x}-0000-4000-8000-000000000000",
                int(catalogue().satno[objects[who[n]]]), sensors(noise).ids[s], times[n],
            )
            for n, s in zip(mine.tolist(), sensor.tolist(), strict=True)
        ]  # fmt: skip
        seen = Shots(
            envelopes, sensor, t[mine], r[mine] + moved[mine, :3], v[mine] + moved[mine, 3:]
        )
        values = report(k, seen, noise, rng)
        reducer = Reducer(k, catalogue(), trajectory, sensors(noise), PHYSICS)
        batch = reducer.reduce(values, t[mine] // 1_000_000 + 1)
        assert len(batch.rejects) <= 1e-3 * len(values) + 1  # the gate, a few in a million
        rows.append(batch.rows)
        owner.append(who[mine[batch.index]] // 2)
    return Trials(np.concatenate(rows), np.concatenate(owner), truth)


ALL_KINDS = (RADAR, OPTICAL, ISL)
