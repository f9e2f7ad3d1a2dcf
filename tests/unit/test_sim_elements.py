"""States to mean elements and back, and the lines that are written."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sgp4.api import Satrec

from sda_pipeline.astro.catalogue import JD_1970, parse_catalogue
from sda_pipeline.cli.sim.background import CLASSES, background_elements
from sda_pipeline.cli.sim.mean_elements import (
    GRID_NS,
    MU_KM3_S2,
    Elements,
    element_lines,
    make_satrec,
    mean_elements,
    on_grid,
    osculating,
    state,
)
from sda_pipeline.errors import SdaError
from tests.unit.orbit_rig import checksummed
from tests.unit.sim_rig import EPOCH_NS

T = on_grid(EPOCH_NS + 123_456_789_012)


def random_states(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(5)
    states = []
    for k in range(count):
        a = rng.uniform(6850.0, 8000.0)
        e = Elements(
            70_001 + k, "", T, math.sqrt(MU_KM3_S2 / a**3) * 60.0, rng.uniform(0.0, 0.02),
            math.radians(rng.uniform(10.0, 150.0)), *rng.uniform(0.0, 6.28, 3), bstar=1e-4,
        )  # fmt: skip
        states.append(state(make_satrec(e), T))
    return states


def test_300_of_300_states_are_reproduced() -> None:
    moved = []
    for r, v in random_states(300):
        wanted = mean_elements(80_000, "X", T, r, v, bstar=3e-5)
        exact, _ = state(make_satrec(wanted), T)
        assert np.linalg.norm(exact - r) < 0.002
        _, one, two = element_lines(wanted)
        rounded, _ = state(Satrec.twoline2rv(one, two), T)
        moved.append(np.linalg.norm(rounded - r))
    assert np.percentile(moved, 50) < 10.0
    assert max(moved) < 25.0  # half a ten-thousandth degree in two angles


def test_the_epoch_is_exactly_the_instant_asked_for() -> None:
    r, v = random_states(1)[0]
    _, one, two = element_lines(mean_elements(80_000, "X", T, r, v))
    read = Satrec.twoline2rv(one, two)
    days = T // 86_400_000_000_000
    assert read.jdsatepoch == JD_1970 + days
    assert round(read.jdsatepochF * 86_400e9 / GRID_NS) * GRID_NS == T % 86_400_000_000_000


def test_states_without_such_elements_are_refused() -> None:
    with pytest.raises(SdaError, match=r"cannot engineer an encounter: .*choose another orbit"):
        mean_elements(1, "X", T, np.array([7e6, 0.0, 0.0]), np.array([0.0, 12_000.0, 400.0]))


def test_osculating_elements_of_a_textbook_orbit() -> None:
    """A circular orbit at the ascending node, inclined 60 degrees."""
    speed = math.sqrt(MU_KM3_S2 / 7000.0)
    i = math.radians(60.0)
    v = np.array([0.0, speed * math.cos(i), speed * math.sin(i)])
    a, ex, ey, inclination, node, longitude = osculating(np.array([7000.0, 0.0, 0.0]), v)
    assert a == pytest.approx(7000.0)
    assert (ex, ey, node) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
    assert inclination == pytest.approx(i)
    assert math.sin(longitude) == pytest.approx(0.0, abs=1e-9)


def test_the_background_is_a_usable_catalogue() -> None:
    made = background_elements(np.random.default_rng(1), EPOCH_NS, range(70_001, 72_001))
    lines = [element_lines(e) for e in made]
    for _, one, two in lines:
        assert (len(one), len(two)) == (69, 69)
        assert (one, two) == (checksummed(one), checksummed(two))
    catalogue = parse_catalogue("".join(f"{line}\n" for lines3 in lines for line in lines3), "tle")
    assert (catalogue.n, catalogue.refused) == (2000, [])
    assert {name.rsplit(" ", 1)[0] for name in catalogue.names} == {c.name for c in CLASSES}
    assert 0.88 < catalogue.leo.mean() < 0.96
    r, _ = catalogue.nodes((EPOCH_NS + 900 * 10**9) // (5 * 10**9))
    assert np.isfinite(r).all()
