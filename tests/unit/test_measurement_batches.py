"""The reduction over batches: its statistics when the model is true, and its bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from sda_pipeline.astro import measurement
from sda_pipeline.astro.columns import F8
from sda_pipeline.astro.measurement import predict_optical, predict_radar
from sda_pipeline.astro.reference import MU, Site, rtn_axes, site_teme
from tests.unit.reduction_rig import ARC, FLOOR, Scene, optical, radar, scene

# --- statistics ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["radar", "optical", "isl"])
def test_nis_is_chi_square_when_the_model_is_true(kind: str) -> None:
    count, time_sigma = 4_000, 2e-3
    at = scene(count, 11)
    rng = np.random.default_rng(12)
    offset = rng.normal(size=(count, 6)) * at.prior
    axes = rtn_axes(at.r, at.v)
    r = at.r + (axes @ offset[:, :3, None])[:, :, 0]
    v = at.v + (axes @ offset[:, 3:, None])[:, :, 0]
    slip = rng.normal(size=count) * time_sigma
    moved = r + slip[:, None] * v
    site = site_teme(at.t + np.round(slip * 1e9).astype(np.int64), *at.place, 0.0)
    noise = rng.normal(size=(4, count))
    if kind == "radar":
        az, el, rho, rate = predict_radar(moved, v, site)
        measured = (
            az + noise[0] * ARC, el + noise[1] * ARC, rho + noise[2] * 20.0, rate + noise[3] * 0.5,
        )  # fmt: skip
        got = radar(at, measured, time_sigma=time_sigma, floor=1e-12)
    elif kind == "optical":
        ra, dec = predict_optical(moved, v, site, at.to_teme)
        cos_dec = np.cos(np.radians(dec))
        got = optical(
            at, ra + noise[0] * ARC / cos_dec, dec + noise[1] * ARC, time_sigma=time_sigma
        )
    else:
        scale = np.array([20.0, 20.0, 20.0, 0.02, 0.02, 0.02])
        gravity = -MU * r / np.linalg.norm(r, axis=1)[:, None] ** 3
        x = np.hstack([moved, v + slip[:, None] * gravity]) + rng.normal(size=(count, 6)) * scale
        cov = np.tile(np.diag(scale * scale), (count, 1, 1))
        got = measurement.reduce_isl(at.r, at.v, x, cov, np.full(count, time_sigma), at.prior)
    dof = int(got.dof[0])
    five_sigma = 5.0 * np.sqrt(2.0 * dof / count)
    assert got.nis.mean() == pytest.approx(dof, abs=five_sigma)
    assert (got.nis > chi2.ppf(0.99, dof)).mean() == pytest.approx(0.01, abs=0.008)
    assert np.all(got.nis < chi2.ppf(1.0 - 1e-8, dof))


def test_without_the_prior_the_same_innovations_are_far_outside() -> None:
    at = scene(1_000, 13)
    offset = np.random.default_rng(14).normal(size=(1_000, 3)) * at.prior[:, :3]
    r = at.r + (rtn_axes(at.r, at.v) @ offset[:, :, None])[:, :, 0]
    measured = predict_radar(r, at.v, at.site)
    assert radar(at, measured).nis.mean() < 4.5
    assert radar(at._replace(prior=1e-9 * at.prior), measured).nis.mean() > 100.0


# --- batches ------------------------------------------------------------------------------


def reduce_all(at: Scene, part: slice, seed: int) -> list[F8]:
    """All three reductions of a slice of a scene's measurements, every output."""
    count = len(at.r)
    rng = np.random.default_rng(seed)
    az, el, rho, rate = predict_radar(at.r, at.v, at.site)
    ra, dec = predict_optical(at.r, at.v, at.site, at.to_teme)
    noise = rng.normal(size=(4, count))
    rate = np.where(rng.random(count) < 0.3, np.nan, rate + noise[3])
    angles = rng.uniform(1e-3, 0.1, (2, count))
    lengths = rng.uniform(1.0, 50.0, (2, count))
    ts = rng.uniform(0.0, 1e-2, count)
    root = rng.normal(size=(count, 6, 6)) * 10.0
    cov = root @ root.transpose(0, 2, 1) + np.eye(6)
    x = np.hstack([at.r, at.v]) + rng.normal(size=(count, 6))
    site = Site(*(axis[part] for axis in at.site))
    radar_part = measurement.reduce_radar(
        at.r[part], at.v[part], site, (az + noise[0])[part], (el + noise[1])[part],
        (rho + noise[2])[part], rate[part], angles[0][part], angles[1][part], lengths[0][part],
        lengths[1][part], ts[part], at.prior[part], np.full(count, FLOOR)[part],
    )  # fmt: skip
    optical_part = measurement.reduce_optical(
        at.r[part], at.v[part], site, (ra + noise[0])[part], (dec + noise[1])[part],
        angles[0][part], angles[1][part], ts[part], at.to_teme[part], at.prior[part],
    )  # fmt: skip
    isl_part = measurement.reduce_isl(
        at.r[part], at.v[part], x[part], cov[part], ts[part], at.prior[part]
    )
    place = site_teme(at.t[part], *(column[part] for column in at.place), 0.1)
    predicted = predict_radar(at.r[part], at.v[part], place)
    again = predict_optical(at.r[part], at.v[part], place, at.to_teme[part])
    return [*radar_part, *optical_part, *isl_part, *place, *predicted, *again]


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40), cut=st.integers(1, 17))
@settings(max_examples=40, deadline=None)
def test_a_batch_equals_its_parts_bit_for_bit(seed: int, count: int, cut: int) -> None:
    at = scene(count, seed, zenith_deg=80.0)
    whole = reduce_all(at, slice(None), seed)
    parts = [reduce_all(at, slice(n, n + cut), seed) for n in range(0, count, cut)]
    for n, column in enumerate(whole):
        joined = np.concatenate([part[n] for part in parts])
        assert np.array_equal(column, joined, equal_nan=True), n


def test_a_full_chunk_equals_its_elements_bit_for_bit() -> None:
    at = scene(1_024, 15)
    whole = reduce_all(at, slice(None), 1)
    for n in range(0, 1_024, 61):
        for column, single in zip(whole, reduce_all(at, slice(n, n + 1), 1), strict=True):
            assert np.array_equal(column[n : n + 1], single, equal_nan=True)


def test_what_cannot_be_reduced_is_nan_without_a_warning_and_spoils_no_other() -> None:
    at = scene(5, 16)
    predicted = [column.copy() for column in predict_radar(at.r, at.v, at.site)]
    predicted[1][3] = -89.0  # far from the prediction
    r = np.array(at.r)
    r[1] = np.nan
    r[2] = at.site.p[2]  # range 0
    broken = at._replace(r=r)
    got = radar(broken, tuple(predicted))  # type: ignore[arg-type]
    gate = got.nis <= 38.26
    assert gate.tolist() == [True, False, False, False, True]
    assert got.cosine[3] < 0.5
    bad = np.tile(np.eye(6), (5, 1, 1))
    bad[3, 2, 2] = -1e12
    x = np.hstack([at.r, at.v])
    got = measurement.reduce_isl(r, at.v, x, bad, np.zeros(5), at.prior)
    assert (got.nis <= 38.26).tolist() == [True, False, False, False, True]
