"""Packing, transport, folding and fusing of information; the Monte-Carlo consistency of it all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sda_pipeline.astro.catalogue import Catalogue, prior_sigma
from sda_pipeline.astro.fusion import (
    fuse,
    pack21,
    prior_information,
    segment_fold,
    transition,
    transport_info,
    unpack21,
)
from sda_pipeline.astro.measurement import predict_radar, reduce_radar
from sda_pipeline.astro.reference import MU, gmst82, pane_of, rtn_axes, site_teme, tau_of
from sda_pipeline.astro.trajectory import Trajectory
from sda_pipeline.limits import PANE_NS, WINDOW_PANES
from sda_pipeline.settings import Physics
from tests.unit.orbit_rig import EPOCH_NS, mixed_catalogue


def information(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random (L, b): symmetric, of magnitudes as radar gives them."""
    root = rng.normal(size=(count, 6, 4)) * np.array([0.1] * 3 + [2.0] * 3)[None, :, None]
    return pack21(root @ root.transpose(0, 2, 1)), rng.normal(size=(count, 6))


def test_packing_is_the_lower_triangle_by_rows() -> None:
    packed = np.arange(21.0)[None]
    full = unpack21(packed)[0]
    assert full[0, 0] == 0
    assert full[1].tolist()[:2] == [1, 2]
    assert full[5].tolist() == [15, 16, 17, 18, 19, 20]
    assert np.array_equal(full, full.T)
    assert np.array_equal(pack21(full[None]), packed)


def test_transition_moves_a_deviation_on() -> None:
    deviation = np.array([1.0, 2.0, 3.0, 0.1, 0.2, 0.3])
    moved = transition(np.array([10.0]))[0] @ deviation
    assert moved.tolist() == [2.0, 4.0, 6.0, 0.1, 0.2, 0.3]


@given(st.integers(0, 2**32 - 1), st.floats(-120, 120))
def test_transport_is_the_dense_product(seed: int, dt: float) -> None:
    info, vec = information(np.random.default_rng(seed), 3)
    dts = np.array([dt, 0.0, -dt])
    phi = transition(dts)
    moved, pulled = transport_info(info, vec, dts)
    dense = phi.transpose(0, 2, 1) @ unpack21(info) @ phi
    assert np.allclose(unpack21(moved), dense, rtol=1e-12, atol=1e-9)
    assert np.allclose(pulled, (phi.transpose(0, 2, 1) @ vec[:, :, None])[:, :, 0], rtol=1e-12)
    assert moved[1].tobytes() == info[1].tobytes()  # no time, no change


def test_transport_keeps_what_was_observed() -> None:
    """Six exact measurements at t_from determine the deviation at t_to: the sign of dt is right."""
    rng = np.random.default_rng(2)
    design, at_to, dt = rng.normal(size=(6, 6)), rng.normal(size=6), np.array([-40.0])
    at_from = transition(dt)[0] @ at_to  # dt = t_from - t_to
    info, vec = pack21((design.T @ design)[None]), (design.T @ design @ at_from)[None]
    moved, pulled = transport_info(info, vec, dt)
    assert np.allclose(np.linalg.solve(unpack21(moved)[0], pulled[0]), at_to, rtol=1e-6)


def left_fold(segment: list[int], count: int, columns: np.ndarray) -> np.ndarray:
    """SPEC 5 as written: one row after the other, from +0.0."""
    out = [[0.0] * columns.shape[1] for _ in range(count)]
    for place, row in zip(segment, columns.tolist(), strict=True):
        out[place] = [total + value for total, value in zip(out[place], row, strict=True)]
    return np.array(out).reshape(count, columns.shape[1])


@given(st.lists(st.integers(0, 6), max_size=40), st.integers(0, 2**32 - 1))
def test_the_fold_is_the_plain_left_fold(segment: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(len(segment), 27)) * 10.0 ** rng.uniform(-9, 9, (len(segment), 27))
    columns[rng.random(columns.shape) < 0.1] = -0.0
    fold = segment_fold(np.array(segment, dtype=np.int64), 7, columns)
    assert fold.tobytes() == left_fold(segment, 7, columns).tobytes()


def test_another_order_of_additions_would_show() -> None:
    """The control: numpy's own sum pairs its terms and differs in the last bits."""
    columns = np.random.default_rng(3).normal(size=(200, 27))
    segment = np.zeros(200, dtype=np.int64)
    plain = left_fold([0] * 200, 1, columns)
    assert segment_fold(segment, 1, columns).tobytes() == plain.tobytes()
    assert segment_fold(segment, 1, columns[::-1]).tobytes() != plain.tobytes()
    assert np.array([np.sum(columns[:, k]) for k in range(27)]).tobytes() != plain.tobytes()


def states(count: int) -> tuple[Catalogue, np.ndarray, np.ndarray]:
    catalogue = mixed_catalogue()
    r, v = catalogue.nodes(EPOCH_NS // PANE_NS)
    return catalogue, r[:count], v[:count]


def test_prior_is_the_inverse_covariance() -> None:
    catalogue, r, v = states(10)
    sigma = prior_sigma(catalogue, Physics())[:10]
    axes = rtn_axes(r, v)
    turn = np.zeros((10, 6, 6))
    turn[:, :3, :3] = turn[:, 3:, 3:] = axes
    covariance = turn @ (np.eye(6) * (sigma * sigma)[:, None, :]) @ turn.transpose(0, 2, 1)
    prior = prior_information(r, v, sigma)
    assert np.allclose(prior @ covariance, np.eye(6), atol=1e-9)
    assert np.array_equal(prior, prior.transpose(0, 2, 1))


def test_fusing_nothing_gives_the_catalogue_back() -> None:
    catalogue, r, v = states(4)
    prior = prior_information(r, v, prior_sigma(catalogue, Physics())[:4])
    delta, cov = fuse(prior, np.zeros((4, 6, 6)), np.zeros((4, 6)))
    assert np.all(delta == 0)
    assert np.allclose(cov @ prior, np.eye(6), atol=1e-9)


def test_fusing_is_the_weighted_mean() -> None:
    """Against a least-squares solution of the same stacked equations, by QR."""
    catalogue, r, v = states(1)
    sigma = prior_sigma(catalogue, Physics())[:1]
    prior = prior_information(r, v, sigma)
    rng = np.random.default_rng(4)
    design, seen = rng.normal(size=(8, 6)) / 10.0, rng.normal(size=8)
    stacked = np.concatenate((np.linalg.cholesky(prior[0]).T, design))
    expected = np.linalg.lstsq(stacked, np.concatenate((np.zeros(6), seen)), rcond=None)[0]
    delta, cov = fuse(prior, (design.T @ design)[None], (design.T @ seen)[None])
    assert np.allclose(delta[0], expected, rtol=1e-9)
    assert np.allclose(cov[0], np.linalg.inv(stacked.T @ stacked), rtol=1e-8)
    assert np.array_equal(cov, cov.transpose(0, 2, 1))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_a_batch_equals_its_elements_alone(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    info, vec = information(rng, count)
    dt = rng.uniform(-60, 60, count)
    catalogue, r, v = states(count)
    sigma = prior_sigma(catalogue, Physics())[:count]

    def chain(rows: slice) -> list[bytes]:
        moved, pulled = transport_info(info[rows], vec[rows], dt[rows])
        prior = prior_information(r[rows], v[rows], sigma[rows])
        delta, cov = fuse(prior, unpack21(moved), pulled)
        return [
            part.tobytes() for row in zip(moved, prior, delta, cov, strict=True) for part in row
        ]

    alone = [part for k in range(count) for part in chain(slice(k, k + 1))]
    assert chain(slice(0, count)) == alone


def two_body(r: np.ndarray, v: np.ndarray, dt_s: np.ndarray) -> np.ndarray:
    """States (m, 6) ``dt_s`` on, Kepler's problem by Runge-Kutta: the truth's own dynamics."""

    def slope(state: np.ndarray) -> np.ndarray:
        pos = state[:, :3]
        return np.hstack((state[:, 3:], -MU * pos / np.linalg.norm(pos, axis=1)[:, None] ** 3))

    state, h = np.hstack((r, v)), (dt_s / 8)[:, None]
    for _ in range(8):
        a = slope(state)
        b = slope(state + h / 2 * a)
        c = slope(state + h / 2 * b)
        d = slope(state + h * c)
        state = state + h / 6 * (a + 2 * b + 2 * c + d)
    return state


def nees(n_obs: int, prior_per_pane: bool, trials: int = 400) -> float:
    """Mean normalised estimation error squared at the TCA, two panes after the window's last.

    Truth: the catalogue state plus a draw of the whole 6-D prior at the TCA, carried to each
    observation by two-body dynamics. Radar: 0.05 deg, 50 m, 1 m/s, sites near the ground track.
    ``prior_per_pane``: fuse each pane's posterior, prior included, as the wrong algorithm would.
    """
    rng = np.random.default_rng(n_obs)
    catalogue, index = mixed_catalogue(), 0
    last = EPOCH_NS // PANE_NS + 40
    tca = (last + 2) * PANE_NS + 2_345_678_901
    r_tca, v_tca = (np.tile(part, (trials, 1)) for part in catalogue.state_at(index, tca))
    sigma = np.tile(prior_sigma(catalogue, Physics())[index], (trials, 1))
    draw, axes = rng.normal(size=(trials, 6)) * sigma, rtn_axes(r_tca, v_tca)
    truth = np.hstack([(axes @ draw[:, k : k + 3, None])[:, :, 0] for k in (0, 3)])

    who = np.repeat(np.arange(trials), n_obs)
    first = last - WINDOW_PANES + 1
    t = first * PANE_NS + rng.integers(0, WINDOW_PANES * PANE_NS, len(who))
    r, v = Trajectory(catalogue).states(np.full(len(who), index), t)
    back = (t - tca) / 1e9
    start = np.hstack((r_tca, v_tca))[who]
    moved = two_body(*np.hsplit(start + truth[who], 2), back) - two_body(*np.hsplit(start, 2), back)

    x, y, z = r_tca[0]
    east_deg = np.degrees(np.arctan2(y, x) - gmst82(np.array([tca]), 0.0)[0])
    lat = np.degrees(np.arctan2(z, np.hypot(x, y))) + rng.uniform(-5, 5, len(who))
    site = site_teme(t, lat, east_deg + rng.uniform(-5, 5, len(who)), np.zeros(len(who)), 0.0)
    seen = predict_radar(r + moved[:, :3], v + moved[:, 3:], site)
    sigmas = [np.full(len(who), s) for s in (0.05, 0.05, 50.0, 1.0)]
    sigmas[0] = sigmas[0] / np.cos(np.radians(seen[1]))
    noisy = [value + rng.normal(size=len(who)) * s for value, s in zip(seen, sigmas, strict=True)]
    zero = np.zeros(len(who))
    reduced = reduce_radar(r, v, site, *noisy, *sigmas, zero, sigma[who], zero)

    pane = pane_of(t)
    info, vec = transport_info(reduced.info, reduced.vec, (t - tau_of(pane)) / 1e9)
    segment = who * WINDOW_PANES + (pane - first)
    sums = segment_fold(segment, trials * WINDOW_PANES, np.hstack((info, vec)))
    total = np.zeros((trials, 27))
    for k in range(WINDOW_PANES):
        fold, dt = sums[k::WINDOW_PANES], np.full(trials, (tau_of(first + k) - tca) / 1e9)
        total += np.hstack(transport_info(fold[:, :21], fold[:, 21:], dt))
    prior = prior_information(r_tca, v_tca, sigma)
    if prior_per_pane:
        rows = np.bincount(segment, minlength=trials * WINDOW_PANES).reshape(trials, WINDOW_PANES)
        prior = prior * (rows > 0).sum(axis=1)[:, None, None]
    delta, cov = fuse(prior, unpack21(total[:, :21]), total[:, 21:])
    error = (delta - truth)[:, :, None]
    return float(np.mean(error.transpose(0, 2, 1) @ np.linalg.solve(cov, error)))


@pytest.mark.parametrize("n_obs", [1, 10, 30])
def test_fused_states_are_as_good_as_they_say(n_obs: int) -> None:
    """Six degrees of freedom: the mean of 400 chi-squares is 6 within 0.17 (one sigma)."""
    assert 5.2 <= nees(n_obs, prior_per_pane=False) <= 6.8


@pytest.mark.parametrize("n_obs", [10, 30])
def test_a_prior_counted_once_a_pane_shows(n_obs: int) -> None:
    """The control: adding up the panes' posteriors counts the catalogue up to six times."""
    assert 17.0 <= nees(n_obs, prior_per_pane=True) <= 21.0  # near 19
