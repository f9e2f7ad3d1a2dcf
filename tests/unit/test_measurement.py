"""The reduction against numerical derivatives: H, innovation, variances, the zenith."""

from __future__ import annotations

import numpy as np
import pytest

from sda_pipeline.astro import measurement
from sda_pipeline.astro.columns import F8
from sda_pipeline.astro.measurement import predict_optical, predict_radar
from sda_pipeline.astro.reference import MU, Site, geodetic_to_ecef, gmst82, site_teme
from tests.unit.orbit_rig import EPOCH_NS
from tests.unit.reduction_rig import (
    ARC,
    FLOOR,
    Scene,
    full,
    innovation_covariance,
    jacobian,
    optical,
    radar,
    same,
    scene,
    turned,
)

# --- H, nu, R -----------------------------------------------------------------------------


def test_radar_information_is_that_of_the_numerical_derivatives() -> None:
    at = scene(200)
    az, el, rho, rate = predict_radar(at.r, at.v, at.site)
    rows = jacobian(lambda r, v: list(predict_radar(r, v, at.site)), at)
    rows[:, 0] *= np.cos(np.radians(el))[:, None]
    rng = np.random.default_rng(1)
    nu = rng.normal(size=(200, 4)) * [1e-6, 1e-6, 30.0, 0.5]  # small: the plane is tangent
    measured = (
        az + np.degrees(nu[:, 0] / np.cos(np.radians(el))), el + np.degrees(nu[:, 1]),
        rho + nu[:, 2], rate + nu[:, 3],
    )  # fmt: skip
    got = radar(at, measured)
    sigma = np.array([1.0, np.radians(ARC), 20.0, 0.5]) * np.ones((200, 4))
    sigma[:, 0] = np.maximum(np.radians(ARC) * np.cos(np.radians(measured[1])), FLOOR)
    weighted = rows / (sigma * sigma)[:, :, None]
    matrix, expected = full(got.info), rows.transpose(0, 2, 1) @ weighted
    for block in ((0, 0), (3, 0), (3, 3)):
        part = np.s_[:, block[0] : block[0] + 3, block[1] : block[1] + 3]
        assert same(matrix[part], expected[part], 2e-6)
    vector = (weighted * nu[:, :, None]).sum(axis=1)
    assert same(got.vec[:, :3], vector[:, :3], 1e-4)
    assert same(got.vec[:, 3:], vector[:, 3:], 1e-4)
    covariance = np.linalg.inv(innovation_covariance(at, rows, sigma))
    assert np.allclose(got.nis, np.einsum("mi,mij,mj->m", nu, covariance, nu), rtol=1e-4)
    assert np.all(got.dof == 4)


def test_optical_information_is_that_of_the_numerical_derivatives() -> None:
    at = scene(200, 2)
    ra, dec = predict_optical(at.r, at.v, at.site, at.to_teme)
    cos_dec = np.cos(np.radians(dec))
    rows = jacobian(lambda r, v: list(predict_optical(r, v, at.site, at.to_teme)), at)
    rows[:, 0] *= cos_dec[:, None]
    nu = np.random.default_rng(3).normal(size=(200, 2)) * 1e-6
    got = optical(at, ra + np.degrees(nu[:, 0] / cos_dec), dec + np.degrees(nu[:, 1]))
    weight = 1.0 / np.radians(ARC) ** 2
    matrix = full(got.info)
    assert same(matrix[:, :3, :3], (rows.transpose(0, 2, 1) @ rows * weight)[:, :3, :3], 2e-6)
    assert not matrix[:, 3:, :].any()
    assert same(got.vec[:, :3], (rows * nu[:, :, None]).sum(axis=1)[:, :3] * weight, 1e-4)
    sigma = np.full((200, 2), np.radians(ARC))
    covariance = np.linalg.inv(innovation_covariance(at, rows, sigma))
    assert np.allclose(got.nis, np.einsum("mi,mij,mj->m", nu, covariance, nu), rtol=1e-4)
    assert np.all(got.dof == 2)


def test_isl_is_the_state_itself() -> None:
    at = scene(100, 4)
    rng = np.random.default_rng(5)
    scale = np.array([30.0, 30.0, 30.0, 0.05, 0.05, 0.05])
    root = (rng.normal(size=(100, 6, 6)) + 2.0 * np.eye(6)) * scale[:, None]
    cov = root @ root.transpose(0, 2, 1)
    nu = rng.normal(size=(100, 6)) * 3.0 * scale
    x = np.hstack([at.r, at.v]) + nu
    slip = 0.002 * np.hstack([at.v, -MU * at.r / np.linalg.norm(at.r, axis=1)[:, None] ** 3])
    noise = cov + slip[:, :, None] * slip[:, None, :]
    got = measurement.reduce_isl(at.r, at.v, x, cov, np.full(100, 0.002), at.prior)
    expected = np.linalg.inv(noise) * scale[:, None] * scale
    assert same(full(got.info) * scale[:, None] * scale, expected, 1e-9)
    vector = np.linalg.solve(noise, nu[:, :, None])[:, :, 0]
    assert same(got.vec * scale, vector * scale, 1e-8)
    eye = np.tile(np.eye(6), (100, 1, 1))
    total = innovation_covariance(at, eye, np.zeros((100, 6))) + noise
    nis = (nu * np.linalg.solve(total, nu[:, :, None])[:, :, 0]).sum(axis=1)
    assert np.allclose(got.nis, nis, rtol=1e-9)
    assert np.all(got.dof == 6)
    assert np.all(got.cosine == 1.0)


def test_a_predicted_measurement_has_no_innovation() -> None:
    at = scene(500, 6)
    predicted = predict_radar(at.r, at.v, at.site)
    ra, dec = predict_optical(at.r, at.v, at.site, at.to_teme)
    x, cov = np.hstack([at.r, at.v]), np.tile(np.eye(6), (500, 1, 1))
    ones = np.ones(500)
    for got in (
        radar(at, predicted),
        optical(at, ra, dec),
        measurement.reduce_isl(at.r, at.v, x, cov, 0.0 * ones, at.prior),
    ):
        assert np.all(got.nis < 1e-20)
        assert np.allclose(got.cosine, 1.0, rtol=0.0, atol=1e-15)


def test_without_a_range_rate_its_row_is_left_out() -> None:
    at = scene(50, 7)
    az, el, rho, rate = predict_radar(at.r, at.v, at.site)
    rate[::2] = np.nan
    got = radar(at, (az + 0.01, el, rho + 40.0, rate))
    assert got.dof.tolist() == [3, 4] * 25
    assert np.isfinite(got.nis).all()
    assert not full(got.info)[::2, 3:].any()
    assert full(got.info)[1::2, 3:].any()
    # a range rate too vague to say anything comes to the same
    vague = radar(at, (az + 0.01, el, rho + 40.0, np.where(np.isnan(rate), 0.0, rate)),
                  sigmas=(ARC, ARC, 20.0, 1e12))  # fmt: skip
    assert same(got.info[::2, :6], vague.info[::2, :6], 1e-12)
    assert np.allclose(got.nis[::2], vague.nis[::2], rtol=1e-9)


def test_the_azimuth_floor_applies_after_the_cosine() -> None:
    at = scene(40, 8, zenith_deg=20.0)
    az, el, rho, rate = predict_radar(at.r, at.v, at.site)
    # sigma of azimuth 0.004 deg: below the floor of 0.001 deg on the sky above 75.5 deg
    got = radar(at, (az, el, rho, rate), sigmas=(0.004, ARC, 1e9, 1e9))
    arc = np.maximum(np.radians(0.004) * np.cos(np.radians(el)), FLOOR)
    trace = np.einsum("mii->m", full(got.info)[:, :3, :3]) * rho * rho
    assert np.allclose(trace, 1.0 / arc**2 + 1.0 / np.radians(ARC) ** 2, rtol=1e-9)
    assert (arc == FLOOR).any()
    assert (arc > FLOOR).any()


# --- the time term ------------------------------------------------------------------------


def at_offset(at: Scene, dt_s: float, *, turning: bool) -> tuple[F8, F8, Site]:
    """The scene a moment later: straight-line object; site turning with its axes, or straight."""
    r = at.r + dt_s * at.v
    if turning:
        return r, at.v, site_teme(at.t + round(dt_s * 1e9), *at.place, 0.0)
    return r, at.v, at.site._replace(p=at.site.p + dt_s * at.site.v)


def test_the_time_term_is_what_a_moment_moves_the_measurement() -> None:
    # The object moves in a straight line: gravity's share of the range rate's rate is left out.
    at = scene(60, 9)
    step = 1e-3
    later = predict_radar(*at_offset(at, step, turning=True))
    sooner = predict_radar(*at_offset(at, -step, turning=True))
    straight = [predict_radar(*at_offset(at, dt, turning=False))[3] for dt in (step, -step)]
    el = predict_radar(at.r, at.v, at.site)[1]
    rates = np.array([
        turned(later[0], sooner[0]) * np.cos(np.radians(el)) / (2.0 * step),
        turned(later[1], sooner[1]) / (2.0 * step),
        (later[2] - sooner[2]) / (2.0 * step),
        (straight[0] - straight[1]) / (2.0 * step),
    ])  # fmt: skip
    sigma = np.array([np.radians(ARC), np.radians(ARC), 20.0, 0.5])[:, None] * np.ones(60)
    sigma[0] = np.maximum(sigma[0] * np.cos(np.radians(el)), FLOOR)
    predicted = predict_radar(at.r, at.v, at.site)
    rows = jacobian(lambda r, v: list(predict_radar(r, v, at.site)), at)
    rows[:, 0] *= np.cos(np.radians(el))[:, None]
    variance = (sigma * sigma + (rates * 0.01) ** 2).T
    got = full(radar(at, predicted, time_sigma=0.01).info)
    expected = rows.transpose(0, 2, 1) @ (rows / variance[:, :, None])
    for block in ((0, 0), (3, 0), (3, 3)):
        part = np.s_[:, block[0] : block[0] + 3, block[1] : block[1] + 3]
        assert same(got[part], expected[part], 1e-4)
    assert not same(full(radar(at, predicted).info), expected, 1e-2)  # it does inflate


def test_the_optical_time_term_is_what_a_moment_moves_the_direction() -> None:
    at = scene(60, 10)
    step = 1e-3
    places = [predict_optical(*at_offset(at, dt, turning=True), at.to_teme) for dt in (step, -step)]
    ra, dec = predict_optical(at.r, at.v, at.site, at.to_teme)
    rates = np.array([
        turned(places[0][0], places[1][0]) * np.cos(np.radians(dec)),
        turned(places[0][1], places[1][1]),
    ]) / (2.0 * step)  # fmt: skip
    rows = jacobian(lambda r, v: list(predict_optical(r, v, at.site, at.to_teme)), at)
    rows[:, 0] *= np.cos(np.radians(dec))[:, None]
    variance = (np.radians(ARC) ** 2 + (rates * 0.05) ** 2).T
    got = full(optical(at, ra, dec, time_sigma=0.05).info)[:, :3, :3]
    expected = (rows.transpose(0, 2, 1) @ (rows / variance[:, :, None]))[:, :3, :3]
    assert same(got, expected, 1e-4)


# --- zenith -------------------------------------------------------------------------------


@pytest.mark.parametrize("off_m", [0.0, 1e-4, 1.0, 5_000.0])
def test_overhead_is_regular(off_m: float) -> None:
    t = np.array([EPOCH_NS])
    place = (np.array([48.0]), np.array([11.0]), np.array([500.0]))
    site = site_teme(t, *place, 0.0)
    r = site.p + 8e5 * site.up + off_m * site.east
    v = 7_500.0 * site.north
    prior = np.array([[176.0, 695.0, 168.0, 0.6, 0.2, 0.2]])
    at = Scene(t, r, v, place, site, np.eye(3)[None], prior)
    predicted = predict_radar(r, v, site)
    got = radar(at, predicted, floor=np.radians(ARC))
    assert got.nis[0] < 1e-10  # azimuth means nothing within 1e-9 rad of the zenith
    assert got.cosine[0] == pytest.approx(1.0, abs=1e-14)
    # angles round (floored) and range say 1/sigma^2 along three orthogonal directions
    spread = np.linalg.eigvalsh(full(radar(at, (*predicted[:3], np.array([np.nan])),
                                           floor=np.radians(ARC)).info)[0, :3, :3])  # fmt: skip
    arc = 1.0 / (np.radians(ARC) * predicted[2][0]) ** 2
    assert np.allclose(np.sort(spread), np.sort([arc, arc, 1.0 / 400.0]), rtol=1e-9)
    # 300 m to the east of the prediction are seen as 300 m to the east
    moved = predict_radar(r + 300.0 * site.east, v, site)
    seen = radar(at, (moved[0], moved[1], *predicted[2:]), sigmas=(ARC, ARC, 1e9, 1e9),
                 floor=np.radians(ARC))  # fmt: skip
    estimate = seen.vec[0, :3] / arc
    assert np.allclose(estimate @ site.east[0], 300.0, rtol=1e-3)
    assert abs(estimate @ site.north[0]) < 0.3


def test_predicted_angles_of_known_directions() -> None:
    # a site at the equator: an object 45 degrees up in the north-east, receding radially
    t = np.array([EPOCH_NS])
    site = site_teme(t, np.array([0.0]), np.array([0.0]), np.array([0.0]), 0.0)
    direction = (site.up + (site.north + site.east) / np.sqrt(2.0)) / np.sqrt(2.0)
    r, v = site.p + 1e6 * direction, site.v + 123.0 * direction
    az, el, rho, rate = predict_radar(r, v, site)
    assert (az[0], el[0]) == (pytest.approx(45.0), pytest.approx(45.0))
    assert (rho[0], rate[0]) == (pytest.approx(1e6), pytest.approx(123.0))
    # the direction itself is J2000's when the frames coincide
    ra, dec = predict_optical(r, v, site, np.eye(3)[None])
    assert dec[0] == pytest.approx(np.degrees(np.arcsin(direction[0, 2])))
    assert ra[0] == pytest.approx(np.degrees(np.arctan2(direction[0, 1], direction[0, 0])) % 360.0)
    assert np.allclose(site.p[0], [*(6378137.0 * np.array([
        np.cos(gmst82(t, 0.0)[0]), np.sin(gmst82(t, 0.0)[0])])), 0.0])  # fmt: skip
    assert geodetic_to_ecef(*(np.zeros(1),) * 3)[0].tolist() == [6378137.0, 0.0, 0.0]
