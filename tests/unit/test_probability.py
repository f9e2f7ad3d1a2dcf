"""Foster 2-D against direct integration in high precision, closed forms and NASA CARA's values."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from sda_pipeline.astro.probability import Plane, disc_probability, encounter_plane, foster
from tests.unit.foster_rig import exact, exact_plane, geometries

PERIOD_S = np.array([6000.0])
FAST = np.array([[0.0, 0.0, 10_000.0]])


def plane(x: float, y: float, s1: float, s2: float) -> Plane:
    return Plane(np.array([x]), np.array([y]), np.array([s1]), np.array([s2]))


ALERTING = geometries(1, 24, 11.0)  # down to 1e-30
SHARP = geometries(3, 12, 8.0, widest=-1.0)  # sigmas well under the radius: edges inside the disc


@pytest.mark.parametrize("case", ALERTING + SHARP)
def test_agrees_with_direct_integration(case: tuple[float, ...]) -> None:
    *inputs, radius = case
    reference = exact(*inputs, radius)
    assert reference > mp.mpf(10) ** -32
    assert abs(disc_probability(plane(*inputs), radius)[0] / reference - 1) < 1e-7


@pytest.mark.parametrize("case", geometries(2, 12, 36.0))
def test_agrees_far_below_any_threshold(case: tuple[float, ...]) -> None:
    *inputs, radius = case
    reference = exact(*inputs, radius)
    assert mp.mpf(10) ** -290 < reference
    assert abs(disc_probability(plane(*inputs), radius)[0] / reference - 1) < 1e-7


@pytest.mark.parametrize("ratio", [3e-2, 1e-2, 5e-3, 1e-3, 1e-4])
def test_a_sigma_far_under_the_radius_is_still_seen(ratio: float) -> None:
    for x, y in ((7.0, 40.0), (0.0, 19.0), (20.5 * (1 + ratio), 3.0)):
        s1 = 20.0 * ratio
        inputs = (min(x, 20.0 + 8 * s1), y, s1, max(10.0, s1))
        relative = disc_probability(plane(*inputs), 20.0)[0] / exact(*inputs, 20.0) - 1
        assert abs(relative) < 1e-7


def test_a_plain_rule_would_not_do() -> None:
    """The control: 64 nodes over the whole of [-pi/2, pi/2] miss some of the sharp cases."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    missed = 0
    for x, y, s1, s2, radius in SHARP:
        h, w = radius * np.cos(nodes * np.pi / 2), (radius * np.sin(nodes * np.pi / 2) - y) / s2
        inner = ndtr((h - x) / s1) - ndtr((-h - x) / s1)
        plain = np.sum(inner * np.exp(-w * w / 2) * h * weights) * np.pi / 2
        plain /= s2 * np.sqrt(2 * np.pi)
        missed += bool(abs(plain / disc_probability(plane(x, y, s1, s2), radius)[0] - 1) > 1e-6)
    assert missed >= 3


@pytest.mark.parametrize("ratio", [1.0, 1e2, 1e4])
def test_three_dimensional_inputs(ratio: float) -> None:
    """Projection and principal axes keep the digits, for sigma ratios up to 1e4."""
    rng = np.random.default_rng(int(ratio))
    for sigmas in (0.5, 4.0, 10.0):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        scale = 10.0 * np.array([1.0, ratio, ratio ** rng.uniform(0, 1)])
        cov = (turn * scale**2) @ turn.T
        cov = (cov + cov.T) / 2
        dv = rng.normal(size=3) * 7000.0
        unit = dv / np.linalg.norm(dv)
        dr = (turn * scale) @ rng.normal(size=3)
        dr -= unit * (dr @ unit)
        x, y, s1, s2 = exact_plane(dr, dv, cov)
        distance = float(mp.sqrt((x / s1) ** 2 + (y / s2) ** 2))
        dr *= sigmas / distance
        result = foster(dr[None], dv[None], cov[None], 20.0, PERIOD_S)
        reference = exact(*exact_plane(dr, dv, cov), 20.0)
        assert abs(result.pc[0] / reference - 1) < 1e-6
        assert result.mahalanobis[0] == pytest.approx(sigmas, rel=1e-6)


def test_centred_circle_has_a_closed_form() -> None:
    for sigma in (0.5, 20.0, 3000.0):
        expected = -np.expm1(-(20.0**2) / (2 * sigma**2))
        assert disc_probability(plane(0.0, 0.0, sigma, sigma), 20.0)[0] == pytest.approx(
            expected, rel=1e-12
        )


def test_falls_smoothly_to_the_end_of_the_doubles() -> None:
    """Moving away lowers it, positively and without a jump, down to 1e-290."""
    distance = np.linspace(0.0, 36.2 * 100.0, 400)
    same = np.full(400, 100.0)
    for along_x in (True, False):
        x, y = (distance, 0 * distance) if along_x else (0 * distance, distance)
        pc = disc_probability(Plane(x, y, same, same * 3 if along_x else same), 20.0)
        assert np.all(pc > 0)
        assert np.all(np.diff(pc) < 0)
        assert pc[-1] < 1e-280
        assert np.all(np.abs(np.diff(np.log(pc), n=2)) < 0.1)  # log Pc is smooth
    far = disc_probability(plane(1e7, 1e7, 0.5, 0.5), 20.0)
    assert far[0] == 0.0


def lower(*terms: float) -> np.ndarray:
    """A symmetric 3x3 from its lower triangle by rows."""
    out = np.zeros((3, 3))
    out[np.tril_indices(3)] = terms
    return out + np.tril(out, -1).T


CARA = [
    (
        [378.39559, 4305.721887, 5752.767554], [2.360800244, 5.580331936, -4.322349039],
        lower(44.5757544811362, 81.6751751052616, 158.453402956163,
              -67.8687662707124, -128.616921644858, 105.490542562701),
        [374.5180598, 4307.560983, 5751.130418], [-5.388125081, -3.946827739, 3.322820358],
        lower(2.31067077720423, 1.69905293875632, 1.24957388457206,
              -1.4170164577661, -1.04174164279599, 0.869260558223714),
        2.706023476569787e-05,
    ),
    (
        [-3239.128337196251, 2404.575152356222, 5703.228541709001],
        [-3.745768373154199, 5.012339015927846, -4.231864565717194],
        lower(0.342072996423899, -0.412677096778269, 0.609905946319294,
              0.371500417511149, -0.540401385544286, 0.521238634755377) / 1000.0,
        [-3239.138264917246, 2404.568320465936, 5703.235605231182],
        [6.110192790100711, -1.767321407894830, 4.140369261741708],
        lower(0.028351300975134, -0.008204103437377, 0.002404377774847,
              0.019253747960155, -0.005586512197914, 0.013289250260317),
        1.807363058494765e-01,
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CARA)
def test_nasa_cara_values(case: tuple[np.ndarray, ...]) -> None:
    """NASA CARA Analysis Tools, PcCircle_UnitTest.m: two Omitron cases, 20 m (km, km/s, km^2).

    CARA takes the whole |r| as the miss in the plane, so the vector is stretched to that length.
    """
    r1, v1, cov1, r2, v2, cov2 = (np.array(part) * 1000.0 for part in case[:6])
    dr, dv, cov = r2 - r1, v2 - v1, (cov1 + cov2) * 1000.0
    normal = dr - dv * (dr @ dv) / (dv @ dv)
    normal *= np.linalg.norm(dr) / np.linalg.norm(normal)
    result = foster(normal[None], dv[None], cov[None], 20.0, PERIOD_S)
    assert result.pc[0] == pytest.approx(case[6], rel=1e-10)


def diagonal(*sigmas: float) -> np.ndarray:
    return np.diag(np.array(sigmas) ** 2)[None]


def test_flag_npd_both_ways() -> None:
    dr = np.array([[5.0, 0.0, 0.0]])
    sound = foster(dr, FAST, diagonal(100.0, 30.0, 50.0), 20.0, PERIOD_S)
    assert sound.flags == [()]
    broken = diagonal(100.0, 30.0, 50.0)
    broken[0, 0, 0] = -1.0
    result = foster(dr, FAST, broken, 20.0, PERIOD_S)
    assert "npd" in result.flags[0]
    # clipped at (1e-4 HBR)^2 = (2 mm)^2
    offsets, npd = encounter_plane(dr, FAST, broken, 20.0)
    assert npd[0]
    assert offsets.s1[0] == pytest.approx(0.002)
    assert result.mahalanobis[0] == pytest.approx(2500.0)
    assert result.pc[0] == pytest.approx(2 * ndtr(np.sqrt(20**2 - 5**2) / 30) - 1, rel=1e-5)
    # along the velocity it is not in the plane: not npd, but nothing vouches for the duration
    along = diagonal(100.0, 30.0, 50.0)
    along[0, 2, 2] = -1.0
    assert foster(dr, FAST, along, 20.0, PERIOD_S).flags == [("extended",)]


def test_flag_offset_both_ways() -> None:
    """A correlation between miss and along-velocity error moves the peak by r'C^-1 v / v'C^-1 v."""
    dr = np.array([[5000.0, 0.0, 0.0]])
    sx, sz, speed, period = 100.0, 2000.0, 500.0, 6000.0
    # r'C^-1 v / v'C^-1 v of a 2 x 2 inverse, by hand: correlation x miss / sx x sz / speed
    limit = 0.01 * period * speed / sz * sx / 5000.0
    for correlation, expected in ((0.0, ()), (limit * 0.999, ()), (limit * 1.001, ("offset",))):
        cov = diagonal(sx, 50.0, sz)
        cov[0, 0, 2] = cov[0, 2, 0] = correlation * sx * sz
        dv = np.array([[0.0, 0.0, speed]])
        assert foster(dr, dv, cov, 20.0, np.array([period])).flags[0] == expected


def test_flag_extended_both_ways() -> None:
    dr = np.array([[10.0, 0.0, 0.0]])

    def flags(sigma_along: float, speed: float) -> tuple[str, ...]:
        dv = np.array([[0.0, 0.0, speed]])
        return foster(dr, dv, diagonal(50.0, 50.0, sigma_along), 20.0, PERIOD_S).flags[0]

    # 9.8 sigma / speed / period against 0.02
    limit = 0.02 * 6000.0 / 9.8 * 1000.0
    assert flags(limit * 0.999, 1000.0) == ()
    assert flags(limit * 1.001, 1000.0) == ("extended",)
    # too slow, however short
    assert flags(1.0, 200.0) == ()
    assert flags(1.0, 199.9) == ("extended",)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_a_batch_equals_its_elements_alone(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(count, 3, 3)) * 10 ** rng.uniform(-2, 3, size=(count, 1, 1))
    cov = root @ root.transpose(0, 2, 1)
    cov[rng.random(count) < 0.2] *= -1.0  # some not positive definite
    dr = rng.normal(size=(count, 3)) * 10 ** rng.uniform(0, 4, size=(count, 1))
    dv = rng.normal(size=(count, 3)) * 10 ** rng.uniform(1, 4, size=(count, 1))
    period = rng.uniform(5000.0, 90_000.0, count)
    whole = foster(dr, dv, cov, 20.0, period)
    for k in range(count):
        one = slice(k, k + 1)
        alone = foster(dr[one], dv[one], cov[one], 20.0, period[one])
        assert alone.pc.tobytes() == whole.pc[one].tobytes()
        assert alone.mahalanobis.tobytes() == whole.mahalanobis[one].tobytes()
        assert alone.flags == whole.flags[one]


def test_an_empty_batch() -> None:
    empty = np.empty((0, 3))
    result = foster(empty, empty, np.empty((0, 3, 3)), 20.0, np.empty(0))
    assert (len(result.pc), len(result.mahalanobis), result.flags) == (0, 0, [])
