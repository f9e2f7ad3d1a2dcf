"""One measurement: innovation, information, NIS by SPEC 2, in scalar loops. Not fast."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from sda_pipeline.sensors import Sensor
from sda_pipeline.settings import Physics, Prior
from tests.reference.slow_geometry import (
    MU,
    OMEGA,
    Vec,
    add,
    cross,
    dot,
    j2000_to_teme,
    norm,
    rtn,
    scaled,
    site,
    sub,
    times,
)

EARTH_RADIUS_M = 6_356_752.0  # at the poles: below it a point is under the surface anywhere
Six = tuple[float, ...]


class Refused(Exception):
    """An observation that makes no row. Its first argument is the class of SPEC 1."""


class Line(NamedTuple):
    """One scalar measurement: its row of H, innovation and variance."""

    h: Six
    nu: float
    variance: float


class View(NamedTuple):
    """An object as a site sees it (SPEC 2, Site)."""

    u: Vec
    rho: float
    rate: float
    q: Vec
    dv: Vec
    east: Vec
    north: Vec
    up: Vec


def view(r: Vec, v: Vec, where: tuple[Vec, Vec, Vec, Vec, Vec]) -> View:
    p, vs, east, north, up = where
    d, dv = sub(r, p), sub(v, vs)
    rho = norm(d)
    u = scaled(1.0 / rho, d)
    rate = dot(u, dv)
    q = scaled(1.0 / rho, sub(dv, scaled(rate, u)))
    return View(u, rho, rate, q, dv, east, north, up)


def cosine(m: Vec, u: Vec) -> float:
    """Of the angle between measured and predicted direction; at most 60 degrees are allowed."""
    c = dot(m, u)
    if c < 0.5:
        raise Refused("ValidationFailed", "measured direction over 60 deg from the predicted one")
    return c


def sigma(obs: dict[str, Any], field: str, default: float) -> float:
    return float(obs.get(field, default))


def radar(
    obs: dict[str, Any], r: Vec, v: Vec, t: int, sensor: Sensor, physics: Physics
) -> list[Line]:
    """Azimuth, elevation, range and, if sent, range rate in the plane normal to the prediction."""
    at = view(r, v, site(t, sensor.lat, sensor.lon, sensor.alt_m, physics.dut1_s))
    e, n, k = dot(at.east, at.u), dot(at.north, at.u), dot(at.up, at.u)
    h = math.hypot(e, n)
    if h < 1e-9:
        a, b = at.east, at.north
    else:
        a = scaled(1.0 / h, sub(scaled(n, at.east), scaled(e, at.north)))
        level = add(scaled(e, at.east), scaled(n, at.north))
        b = add(scaled(-k / h, level), scaled(h, at.up))
    az, el = math.radians(obs["azimuth"]), math.radians(obs["elevation"])
    m = add(
        scaled(math.cos(el), add(scaled(math.sin(az), at.east), scaled(math.cos(az), at.north))),
        scaled(math.sin(el), at.up),
    )
    c = cosine(m, at.u)
    floor = math.radians(sensor.angle_floor_deg)
    az_unc = math.radians(sigma(obs, "azimuthUnc", sensor.azimuth_unc)) * math.cos(el)
    el_unc = math.radians(sigma(obs, "elevationUnc", sensor.elevation_unc))
    range_unc = 1000.0 * sigma(obs, "rangeUnc", sensor.range_unc)
    rate_unc = 1000.0 * sigma(obs, "rangeRateUnc", sensor.range_rate_unc)
    clock = sigma(obs, "timeUnc", sensor.time_sigma_s)
    turning = sub(at.q, cross((0.0, 0.0, OMEGA), at.u))
    rate2 = (dot(at.dv, at.dv) - at.rate * at.rate) / at.rho
    lines = [
        line(scaled(1.0 / at.rho, a), None, dot(a, m) / c, (az_unc, floor), dot(a, turning), clock),
        line(scaled(1.0 / at.rho, b), None, dot(b, m) / c, (el_unc, floor), dot(b, turning), clock),
        line(at.u, None, 1000.0 * obs["range"] - at.rho, (range_unc, sensor.range_floor_m),
             at.rate, clock),
    ]  # fmt: skip
    if "rangeRate" in obs:
        nu = 1000.0 * obs["rangeRate"] - at.rate
        lines.append(line(at.q, at.u, nu, (rate_unc, sensor.rate_floor_m_s), rate2, clock))
    return lines


def line(
    position: Vec,
    velocity: Vec | None,
    nu: float,
    noise: tuple[float, float],
    rate: float,
    clock: float,
) -> Line:
    """One measurement; ``noise`` is its sigma and the floor of that, ``rate`` its change per s."""
    one = max(noise)
    return Line((*position, *(velocity or (0.0, 0.0, 0.0))), nu, one * one + (rate * clock) ** 2)


def optical(
    obs: dict[str, Any], r: Vec, v: Vec, t: int, sensor: Sensor, physics: Physics
) -> list[Line]:
    """Right ascension (on the sky) and declination."""
    place = (sensor.lat, sensor.lon, sensor.alt_m)
    if "senlat" in obs:
        place = (obs["senlat"], obs["senlon"], 1000.0 * obs["senalt"])
    at = view(r, v, site(t, *place, physics.dut1_s))
    turn = j2000_to_teme(t)
    ra, dec = math.radians(obs["ra"]), math.radians(obs["declination"])
    sra, cra, sdec, cdec = math.sin(ra), math.cos(ra), math.sin(dec), math.cos(dec)
    m = times(turn, (cdec * cra, cdec * sra, sdec))
    c = cosine(m, at.u)
    clock = sigma(obs, "timeUnc", sensor.time_sigma_s)
    lines = []
    for axis, unc in (
        ((-sra, cra, 0.0), sigma(obs, "raUnc", sensor.ra_unc)),
        ((-sdec * cra, -sdec * sra, cdec), sigma(obs, "declinationUnc", sensor.declination_unc)),
    ):
        a = times(turn, axis)
        g = sub(a, scaled(dot(a, at.u), at.u))
        noise = (math.radians(unc), math.radians(sensor.angle_floor_deg))
        position = scaled(1.0 / at.rho, g)
        lines.append(line(position, None, dot(g, m) / c, noise, dot(g, at.q), clock))
    return lines


def isl(
    obs: dict[str, Any], r: Vec, v: Vec, t: int, sensor: Sensor, prior: Prior
) -> tuple[list[float], list[float], float]:
    """A whole state: L = R^-1, b = R^-1 nu, NIS."""
    position = (1000.0 * obs["xpos"], 1000.0 * obs["ypos"], 1000.0 * obs["zpos"])
    velocity = (1000.0 * obs["xvel"], 1000.0 * obs["yvel"], 1000.0 * obs["zvel"])
    turn = np.eye(3)
    if obs["referenceFrame"] == "J2000":
        matrix = j2000_to_teme(t)
        position, velocity = times(matrix, position), times(matrix, velocity)
        turn = np.array(matrix)
    if norm(position) < EARTH_RADIUS_M or norm(velocity) > 15_000.0:
        raise Refused("ValidationFailed", "position or speed")
    both = np.zeros((6, 6))
    both[:3, :3] = both[3:, 3:] = turn
    noise = both @ isl_covariance(obs, sensor) @ both.T
    for k, floor in enumerate([sensor.pos_floor_m] * 3 + [sensor.vel_floor_m_s] * 3):
        noise[k, k] = max(noise[k, k], floor * floor)
    pull = -MU / norm(r) ** 3
    drift = sigma(obs, "timeUnc", sensor.time_sigma_s) * np.array([*v, *scaled(pull, r)])
    noise = noise + np.outer(drift, drift)
    nu = np.array([*sub(position, r), *sub(velocity, v)])
    info = np.linalg.inv(noise)
    axes = np.zeros((6, 6))
    axes[:3, :3] = axes[3:, 3:] = np.array(rtn(r, v)).T
    expected = axes @ np.diag(np.array([*prior.pos_m, *prior.vel_m_s]) ** 2) @ axes.T + noise
    vec = info @ nu
    lower = [float(info[i, j]) for i in range(6) for j in range(i + 1)]
    return lower, [float(x) for x in vec], float(nu @ np.linalg.solve(expected, nu))


def isl_covariance(obs: dict[str, Any], sensor: Sensor) -> np.ndarray:
    """R in the observation's own frame, m and s."""
    if "cov" in obs:
        noise, k = np.zeros((6, 6)), 0
        for i in range(6):
            for j in range(i + 1):
                noise[i, j] = noise[j, i] = 1e6 * obs["cov"][k]
                k += 1
        if np.linalg.eigvalsh(noise)[0] <= 0.0:
            raise Refused("ValidationFailed", "cov is not positive definite")
        return noise
    pos = 1000.0 * sigma(obs, "posUnc", sensor.pos_unc)
    vel = 1000.0 * sigma(obs, "velUnc", sensor.vel_unc)
    return np.diag([pos * pos] * 3 + [vel * vel] * 3)


def information(lines: list[Line]) -> tuple[list[float], list[float]]:
    """L = H' R^-1 H (lower triangle by rows) and b = H' R^-1 nu."""
    info: list[float] = []
    vec: list[float] = []
    for i in range(6):
        info += [sum(one.h[i] * one.h[j] / one.variance for one in lines) for j in range(i + 1)]
        vec.append(sum(one.h[i] * one.nu / one.variance for one in lines))
    return info, vec


def innovation_squared(lines: list[Line], r: Vec, v: Vec, prior: Prior) -> float:
    """nu' (H P H' + R)^-1 nu, P the diagonal prior in RTN; Gaussian elimination with pivoting."""
    axes = rtn(r, v)
    spread = []
    for one in lines:
        parts = ((one.h[:3], prior.pos_m), (one.h[3:], prior.vel_m_s))
        spread.append(
            [dot(axis, h) * s for h, sigmas in parts for axis, s in zip(axes, sigmas, strict=True)]  # type: ignore[arg-type]
        )
    size = len(lines)
    table = []
    for i in range(size):
        row = [sum(a * b for a, b in zip(spread[i], spread[j], strict=True)) for j in range(size)]
        row[i] += lines[i].variance
        table.append([*row, lines[i].nu])
    for k in range(size):
        pivot = max(range(k, size), key=lambda i: abs(table[i][k]))
        table[k], table[pivot] = table[pivot], table[k]
        lead = table[k][k]
        for i in range(k + 1, size):
            factor = table[i][k] / lead
            for j in range(k, size + 1):
                table[i][j] -= factor * table[k][j]
    solved = [0.0] * size
    for k in reversed(range(size)):
        known = sum(table[k][j] * solved[j] for j in range(k + 1, size))
        solved[k] = (table[k][size] - known) / table[k][k]
    return sum(one.nu * x for one, x in zip(lines, solved, strict=True))
