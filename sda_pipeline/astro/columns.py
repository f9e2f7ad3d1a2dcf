"""Three-vectors and small symmetric systems with the batch as the last axis. Not physics.

A "column" array is f8[3,m]: numpy then runs each operation over the whole batch at once, which is
why the reduction's inner loops use it rather than rows f8[m,3]. Every operation is elementwise and
in a fixed order, so a batch of m equals m batches of one, bit for bit (SPEC 5).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]
Lower = Sequence[Sequence[F8]]  # lower[i][j], j <= i, each f8[m]


def columns(rows: F8) -> F8:
    """f8[m,k] in any memory order as contiguous columns f8[k,m]."""
    return np.ascontiguousarray(rows.T)


def dot(a: F8, b: F8) -> F8:
    """Scalar product of columns f8[3,...] -> f8[...], summed in the order x, y, z."""
    product = a * b
    total: F8 = product[0] + product[1] + product[2]
    return total


def norm(a: F8) -> F8:
    """Length of columns f8[3,m] -> f8[m]."""
    length: F8 = np.sqrt(dot(a, a))
    return length


def cross(a: F8, b: F8) -> F8:
    """Vector product of columns f8[3,m] -> f8[3,m]."""
    out = np.empty_like(a)
    out[0] = a[1] * b[2] - a[2] * b[1]
    out[1] = a[2] * b[0] - a[0] * b[2]
    out[2] = a[0] * b[1] - a[1] * b[0]
    return out


def along(axes: F8, vec: F8) -> F8:
    """Components of columns f8[3,m] along axes f8[3 axes, 3 components, m] -> f8[3 axes, m]."""
    parts: F8 = axes[:, 0] * vec[0] + axes[:, 1] * vec[1] + axes[:, 2] * vec[2]
    return parts


def rtn_columns(r: F8, v: F8) -> F8:
    """Unit vectors R, T, N of states in columns r, v f8[3,m] -> f8[3 axes, 3 components, m]."""
    axes = np.empty((3, *r.shape))
    axes[0] = r / norm(r)
    normal = cross(r, v)
    axes[2] = normal / norm(normal)
    axes[1] = cross(axes[2], axes[0])
    return axes


def factor(lower: Lower) -> tuple[list[list[F8]], list[F8]]:
    """LDL' of symmetric matrices, elementwise over the batch (Golub & Van Loan 4.1, unpivoted).

    Args:
        lower: lower triangle by rows, ``lower[i][j]`` f8[m] for j <= i.

    Returns:
        Unit lower triangle (rows without the diagonal) and the pivots f8[m]. All pivots are
        positive exactly when the matrix is positive definite; else one is <= 0, inf or NaN.
    """
    unit: list[list[F8]] = []
    pivots: list[F8] = []
    for i, row in enumerate(lower):
        scaled: list[F8] = []  # l_ij d_j
        unit_row: list[F8] = []
        diagonal = row[i]
        for j in range(i):
            value = row[j]
            for k in range(j):
                value = value - scaled[k] * unit[j][k]
            scaled.append(value)
            unit_row.append(value / pivots[j])
            diagonal = diagonal - value * unit_row[j]
        unit.append(unit_row)
        pivots.append(diagonal)
    return unit, pivots


def quadratic_form(lower: Lower, x: Sequence[F8]) -> F8:
    """x' M^-1 x, f8[m], for symmetric M given by its lower triangle; NaN unless M is positive."""
    unit, pivots = factor(lower)
    solved: list[F8] = []
    total = np.zeros_like(pivots[0])
    for i, pivot in enumerate(pivots):
        value = x[i]
        for j in range(i):
            value = value - unit[i][j] * solved[j]
        solved.append(value)
        total = total + value * value / np.where(pivot > 0.0, pivot, np.nan)
    return total


def inverse(lower: Lower) -> list[list[F8]]:
    """Lower triangle of M^-1 for symmetric M given by its lower triangle; same layout."""
    unit, pivots = factor(lower)
    size = len(pivots)
    one = np.ones_like(pivots[0])
    back: list[list[F8]] = []  # L^-1, by rows, diagonal included
    for i in range(size):
        row: list[F8] = []
        for j in range(i):
            value = -unit[i][j]
            for k in range(j + 1, i):
                value = value - unit[i][k] * back[k][j]
            row.append(value)
        back.append([*row, one])
    out: list[list[F8]] = []
    for i in range(size):
        out_row: list[F8] = []
        for j in range(i + 1):
            value = back[i][j] / pivots[i]
            for k in range(i + 1, size):
                value = value + back[k][i] * back[k][j] / pivots[k]
            out_row.append(value)
        out.append(out_row)
    return out
