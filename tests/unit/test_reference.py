"""Frames against published values and against the definition of a derivative."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from sda_pipeline.astro import reference
from sda_pipeline.astro.columns import F8
from sda_pipeline.limits import PANE_NS


def ns(*fields: int, ns_of_second: int = 0) -> int:
    return int(datetime(*fields, tzinfo=UTC).timestamp()) * 10**9 + ns_of_second  # type: ignore[misc,arg-type]


# Vallado, Fundamentals, example 3-15 and AIAA 2006-6753, appendix C.
EXAMPLE_NS = ns(2004, 4, 6, 7, 51, 28, ns_of_second=386_009_000)
EXAMPLE_DUT1_S = -0.4399619
R_TEME = np.array([5094.18016210, 6127.64465950, 6380.34453270]) * 1e3
V_TEME = np.array([-4.746131487, 0.785818041, 5.531931288]) * 1e3
R_PEF = np.array([-1033.47503130, 7901.30558560, 6380.34453270]) * 1e3
R_J2000 = np.array([5102.50960000, 6123.01152000, 6378.13630000]) * 1e3
V_J2000 = np.array([-4.743219600, 0.790536600, 5.533756190]) * 1e3


def one(value: float) -> F8:
    return np.array([value])


def test_sidereal_time_of_vallado_example_3_5() -> None:
    # Printed from a Julian date held in one double: good to 40 us, 1.7e-7 deg.
    angle = reference.gmst82(np.array([ns(1992, 8, 20, 12, 14)]), 0.0)
    assert np.degrees(angle[0]) == pytest.approx(152.578787810, abs=1.7e-7)


def test_sidereal_time_takes_ut1_from_utc() -> None:
    # 3 cm is those 40 us at 8,000 km; without dUT1 it would be 257 m.
    t = np.array([EXAMPLE_NS])
    turned = reference.rotate_z(reference.gmst82(t, EXAMPLE_DUT1_S), R_PEF[None])[0]
    assert np.linalg.norm(turned - R_TEME) < 0.03
    wrong = reference.rotate_z(reference.gmst82(t, 0.0), R_PEF[None])[0]
    assert np.linalg.norm(wrong - R_TEME) > 200.0


def test_sidereal_time_is_continuous_over_its_wraps() -> None:
    t = EXAMPLE_NS + np.arange(0, 2 * 86_400, 97, dtype=np.int64) * 10**9
    angle = reference.gmst82(t, 0.0)
    assert np.all((angle >= 0.0) & (angle < 2.0 * np.pi))
    rate = np.diff(np.unwrap(angle)) / 97.0
    # of the true equinox's sidereal day: 7.29211585e-5 rad/s of UT1 (IAU-82)
    assert np.allclose(rate, 7.292115855e-5, rtol=1e-9)


def test_j2000_to_teme_of_vallado_example_3_15() -> None:
    matrix = reference.j2000_to_teme(EXAMPLE_NS)
    # 0.03 arcsec, the terms left out, is 1.5 m at 10,200 km and 1.1 mm/s at 7.3 km/s.
    assert np.linalg.norm(matrix @ R_J2000 - R_TEME) < 1.5
    assert np.linalg.norm(matrix @ V_J2000 - V_TEME) < 2e-3
    assert np.linalg.norm(R_J2000 - R_TEME) > 9_000.0  # what the matrix corrects


def test_the_matrix_is_a_rotation() -> None:
    matrix = reference.j2000_to_teme(ns(2026, 11, 23))
    assert np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-15)
    assert np.linalg.det(matrix) == pytest.approx(1.0, abs=1e-15)


def test_one_matrix_per_pane_taken_at_its_middle() -> None:
    first = reference.pane_of(EXAMPLE_NS)
    panes = np.array([first + 1, first, first + 1, first + 400])
    matrices = reference.j2000_to_teme_for(panes)
    for pane, matrix in zip(panes.tolist(), matrices, strict=True):
        assert np.array_equal(matrix, reference.j2000_to_teme(pane * PANE_NS + PANE_NS // 2))
    assert reference.j2000_to_teme_for(panes[:0]).shape == (0, 3, 3)


def test_panes() -> None:
    t = np.array([-1, 0, PANE_NS - 1, PANE_NS], np.int64)
    assert reference.pane_of(t).tolist() == [-1, 0, 0, 1]
    assert reference.tau_of(reference.pane_of(t)).tolist() == [0, PANE_NS, PANE_NS, 2 * PANE_NS]
    assert (reference.pane_of(12 * PANE_NS + 3), reference.tau_of(11)) == (12, 12 * PANE_NS)


@pytest.mark.parametrize(
    ("place", "expected", "tolerance"),
    [
        # Vallado, Fundamentals, example 7-1 (printed to 0.1 m)
        ((39.007, -104.883, 2187.0), (-1275121.9, -4797989.0, 3994297.5), 0.06),
        # Gade, "A non-singular horizontal position representation", example 4
        ((1.0, 2.0, 3.0), (6373290.27721828, 222560.20067474, 110568.82718179), 1e-7),
        ((90.0, 0.0, 0.0), (0.0, 0.0, 6356752.314245), 1e-6),  # semi-minor axis of WGS-84
    ],
)
def test_geodetic_to_ecef_of_published_places(
    place: tuple[float, float, float], expected: tuple[float, float, float], tolerance: float
) -> None:
    position = reference.geodetic_to_ecef(*(one(value) for value in place))[0]
    assert np.allclose(position, expected, rtol=0.0, atol=tolerance)


@pytest.mark.parametrize("place", [(52.0, 13.0, 40.0), (-67.6, -68.1, 2.0), (0.0, 180.0, 3000.0)])
def test_local_axes_are_the_directions_of_growing_coordinates(
    place: tuple[float, float, float],
) -> None:
    lat, lon, alt = (one(value) for value in place)
    step = 1e-5
    grow = [
        reference.geodetic_to_ecef(lat, lon + step, alt)
        - reference.geodetic_to_ecef(lat, lon - step, alt),
        reference.geodetic_to_ecef(lat + step, lon, alt)
        - reference.geodetic_to_ecef(lat - step, lon, alt),
        reference.geodetic_to_ecef(lat, lon, alt + 1.0)
        - reference.geodetic_to_ecef(lat, lon, alt - 1.0),
    ]
    for axis, numeric in zip(reference.enu_axes(lat, lon), grow, strict=True):
        assert np.allclose(axis[0], numeric[0] / np.linalg.norm(numeric[0]), atol=1e-8)


def test_a_site_is_its_ecef_place_turned_and_moves_with_the_earth() -> None:
    rng = np.random.default_rng(3)
    t = EXAMPLE_NS + rng.integers(0, 10**15, 20)
    lat, lon, alt = rng.uniform(-90, 90, 20), rng.uniform(-180, 180, 20), rng.uniform(-1e2, 5e3, 20)
    site = reference.site_teme(t, lat, lon, alt, 0.2)
    turn = reference.gmst82(t, 0.2)
    ecef = reference.geodetic_to_ecef(lat, lon, alt)
    assert np.allclose(site.p, reference.rotate_z(turn, ecef), rtol=0.0, atol=1e-7)
    for axis, fixed in zip(site[2:], reference.enu_axes(lat, lon), strict=True):
        assert np.allclose(axis, reference.rotate_z(turn, fixed), rtol=0.0, atol=1e-14)
    after = reference.site_teme(t + 10**8, lat, lon, alt, 0.2)
    before = reference.site_teme(t - 10**8, lat, lon, alt, 0.2)
    assert np.allclose(site.v, (after.p - before.p) / 0.2, rtol=0.0, atol=1e-4)


def test_rtn_axes() -> None:
    rng = np.random.default_rng(4)
    r, v = rng.normal(0.0, 7e6, (50, 3)), rng.normal(0.0, 7e3, (50, 3))
    axes = reference.rtn_axes(r, v)
    for n in range(50):
        radial, transverse, normal = axes[n].T
        assert np.allclose(radial * np.linalg.norm(r[n]), r[n], rtol=1e-14)
        assert np.allclose(np.cross(radial, transverse), normal, atol=1e-15)
        assert abs(normal @ v[n]) < 1e-10
        assert transverse @ v[n] > 0.0
    assert np.isnan(reference.rtn_axes(np.full((1, 3), np.nan), v[:1])).all()
