"""Elementwise linear algebra against numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sda_pipeline.astro.columns import F8, inverse, quadratic_form

SCALE = np.array([100.0, 100.0, 100.0, 1e-3, 1e-3, 1e-3])  # positions and velocities: m, m/s


def lower(matrix: F8) -> list[list[F8]]:
    return [[matrix[:, i, j] for j in range(i + 1)] for i in range(matrix.shape[1])]


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 6))
def test_solves_as_numpy_does(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    root, x = rng.normal(size=(8, size, size)) + 2.0 * np.eye(size), rng.normal(size=(8, size))
    plain = root @ root.transpose(0, 2, 1)
    matrix = SCALE[:size, None] * plain * SCALE[:size]
    tolerance = 1e-13 * np.linalg.cond(plain).max()
    expected = np.linalg.inv(matrix)
    for i, row in enumerate(inverse(lower(matrix))):
        for j, entry in enumerate(row):
            size_ij = np.sqrt(expected[:, i, i] * expected[:, j, j])
            assert np.all(np.abs(entry - expected[:, i, j]) <= tolerance * size_ij)
    form = quadratic_form(lower(matrix), list(x.T))
    exact = (x * np.linalg.solve(matrix, x[:, :, None])[:, :, 0]).sum(axis=1)
    assert np.allclose(form, exact, rtol=tolerance)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_one_bad_covariance_spoils_no_other(bad: float) -> None:
    matrix = np.tile(np.eye(6), (3, 1, 1))
    matrix[1, 4, 4] = bad
    with np.errstate(all="ignore"):
        form = quadratic_form(lower(matrix), list(np.ones((6, 3))))
    assert (form[0], form[2]) == (6.0, 6.0)
    assert not form[1] < 6.0 or bad == np.inf
