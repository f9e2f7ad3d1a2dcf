"""The vectorised reduction of a source equals the scalar reference, message by message (SPEC 1, 2).

Random valid observations of all kinds, with every optional field; those that fail the innovation
gate must fail it on both sides. What is not valid is the business of the unit tests.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sda_pipeline.settings import ISL, OPTICAL, RADAR, Physics
from tests.reference import slow_source
from tests.reference.slow_correlator import matrix, row_mapping
from tests.reference.slow_geometry import (
    Vec,
    dot,
    j2000_to_teme,
    norm,
    scaled,
    site,
    sub,
    trajectory,
)
from tests.reference.slow_measurement import Refused
from tests.reference.slow_source import Row, parse_time
from tests.unit.observation_rig import Fields, messages, reducer, sensors
from tests.unit.orbit_rig import mixed_catalogue

MATRIX = 1e-9  # of L, relative to its diagonal
# Of b, in sigmas: an innovation is the small difference of numbers up to 1e5 sigmas large, so this
# is 1e-12 of what is subtracted.
VECTOR = 1e-7
NIS = 1e-6  # a row keeps it in four bytes
PHYSICS = Physics(dut1_s=0.1234)
PLACES = {int(satno): k for k, satno in enumerate(mixed_catalogue().satno)}
QUIET = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
SEEDS = st.integers(0, 2**32 - 1)


def varied(kind: int, seed: int, count: int) -> tuple[list[bytes], np.ndarray]:
    """Messages of a kind with optional fields added, changed and left out at random."""
    rng = np.random.default_rng(seed)
    values, timestamps = messages(kind, 60, seed=seed % 7, noise=1.5)
    chosen = rng.integers(0, len(values), count)
    change = {RADAR: _vary_radar, OPTICAL: _vary_optical, ISL: _vary_isl}[kind]
    fresh = []
    for k in chosen.tolist():
        obs = json.loads(values[k])
        if rng.random() < 0.3:
            obs["timeUnc"] = float(10.0 ** rng.uniform(-5, -1))
        change(obs, rng)
        fresh.append(json.dumps(obs).encode())
    return fresh, timestamps[chosen]


def _vary_radar(obs: Fields, rng: np.random.Generator) -> None:
    if rng.random() < 0.3:
        obs["azimuth"] -= 360.0
    if rng.random() < 0.3:
        obs.pop("rangeRate", None)
    for name, high in (
        ("azimuthUnc", 0.3), ("elevationUnc", 0.3), ("rangeUnc", 0.4), ("rangeRateUnc", 0.01),
    ):  # fmt: skip
        if rng.random() < 0.3:
            obs[name] = float(rng.uniform(1e-6, high))


def _vary_optical(obs: Fields, rng: np.random.Generator) -> None:
    """Sometimes seen from a place of its own: anywhere that has the object above the horizon."""
    for name in ("raUnc", "declinationUnc"):
        if rng.random() < 0.3:
            obs[name] = float(rng.uniform(1e-6, 0.1))
    if rng.random() < 0.5:
        return
    t = parse_time(obs["obTime"])
    r, _ = trajectory(mixed_catalogue(), PLACES[obs["satNo"]], t)
    while True:
        lat, lon, alt_km = rng.uniform(-90, 90), rng.uniform(-180, 180), rng.uniform(-0.4, 4)
        p, _, _, _, up = site(t, lat, lon, 1000.0 * alt_km, PHYSICS.dut1_s)
        if dot(sub(r, p), up) > 0.0:
            break
    columns = zip(*j2000_to_teme(t), strict=True)  # its transpose turns back
    seen = scaled(1.0 / norm(sub(r, p)), sub(r, p))
    x, y, z = (dot(_vec(column), seen) for column in columns)
    noise = rng.standard_normal(2) * 0.002
    obs["ra"] = math.degrees(math.atan2(y, x)) + float(noise[0])
    obs["declination"] = float(np.clip(math.degrees(math.asin(z)) + noise[1], -90, 90))
    obs["senlat"], obs["senlon"], obs["senalt"] = lat, lon, alt_km


def _vary_isl(obs: Fields, rng: np.random.Generator) -> None:
    if rng.random() < 0.5:
        obs["referenceFrame"] = "J2000"
        turn = np.array(j2000_to_teme(parse_time(obs["obTime"])))
        for names in (("xpos", "ypos", "zpos"), ("xvel", "yvel", "zvel")):
            turned = turn.T @ [obs[name] for name in names]
            obs.update(zip(names, turned.tolist(), strict=True))
    if rng.random() < 0.5:
        half = rng.standard_normal((6, 6)) * np.array([0.05] * 3 + [2e-4] * 3)[:, None]
        full = half @ half.T + np.diag([1e-4] * 3 + [1e-9] * 3)
        obs["cov"] = full[np.tril_indices(6)].tolist()
    for name, high in (("posUnc", 0.2), ("velUnc", 1e-3)):
        if rng.random() < 0.3:
            obs[name] = float(rng.uniform(1e-7, high))


def _vec(numbers: Any) -> Vec:
    x, y, z = numbers
    return (x, y, z)


def slow(kind: int, value: bytes, timestamp_ms: int) -> Row | str:
    """The reference's row, or its class."""
    try:
        return slow_source.reduce(
            kind, value, timestamp_ms, mixed_catalogue(), PLACES, sensors(), PHYSICS
        )
    except Refused as refused:
        return str(refused.args[0])


def stray(got: Row, expected: Row) -> list[str]:
    """What of a row differs by more than rounding."""
    sigma = np.sqrt(np.diag(matrix(expected["info"])))
    safe = np.where(sigma > 0.0, sigma, 1.0)
    info = np.abs(matrix(got["info"]) - matrix(expected["info"])) / np.outer(safe, safe)
    vec = np.abs(np.array(got["vec"]) - np.array(expected["vec"])) / safe
    found = [n for n in ("id", "t", "sat", "kind", "sensor") if got[n] != expected[n]]
    found += [f"info {info.max()}"] if info.max() > MATRIX else []
    found += [f"vec {vec.max()}"] if vec.max() > VECTOR else []
    off = abs(got["nis"] - expected["nis"])
    return found + ([f"nis {off}"] if off > NIS * (1.0 + expected["nis"]) else [])


def check(kind: int, seed: int, count: int) -> int:
    """Both reductions of a random batch; returns how many rows there were."""
    values, timestamps = varied(kind, seed, count)
    batch = reducer(kind, PHYSICS).reduce(values, timestamps)
    fast: dict[int, Row | str] = {r.index: str(r.kind) for r in batch.rejects}
    fast |= {int(k): row_mapping(row) for k, row in zip(batch.index, batch.rows, strict=True)}
    for k, (value, timestamp) in enumerate(zip(values, timestamps.tolist(), strict=True)):
        expected, got = slow(kind, value, timestamp), fast[k]
        if isinstance(expected, str) or isinstance(got, str):
            assert got == expected, value
        else:
            assert stray(got, expected) == [], value
    return len(batch.rows)


@QUIET
@given(seed=SEEDS, count=st.integers(1, 40))
def test_radar(seed: int, count: int) -> None:
    check(RADAR, seed, count)


@QUIET
@given(seed=SEEDS, count=st.integers(1, 40))
def test_optical(seed: int, count: int) -> None:
    check(OPTICAL, seed, count)


@QUIET
@given(seed=SEEDS, count=st.integers(1, 40))
def test_isl(seed: int, count: int) -> None:
    check(ISL, seed, count)


def test_most_messages_make_rows() -> None:
    """Or the properties would compare refusals."""
    for kind in (RADAR, OPTICAL, ISL):
        assert check(kind, 3, 40) >= 25


def test_a_wrong_sign_would_be_seen() -> None:
    """Control: the comparison notices a site clock off by a microsecond, and a moved sensor."""
    values, timestamps = varied(RADAR, 5, 10)
    batch = reducer(RADAR, Physics(dut1_s=PHYSICS.dut1_s + 1e-6)).reduce(values, timestamps)
    assert len(batch.rows)
    for k, row in zip(batch.index.tolist(), batch.rows, strict=True):
        expected = slow(RADAR, values[k], int(timestamps[k]))
        assert not isinstance(expected, str)
        assert stray(row_mapping(row), expected) != []
