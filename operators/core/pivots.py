"""Whether packed 6x6 covariances are positive definite, a column at a time. Not their inversion."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F8 = npt.NDArray[np.float64]

DIAGONAL = [0, 2, 5, 9, 14, 20]  # of a lower triangle by rows


def smallest_pivot(cov: F8) -> F8:
    """Smallest pivot (n,) of the LDL' of the correlation matrices of ``cov`` (n, 21).

    Positive exactly when the matrix is positive definite, in (0, 1]; NaN for a diagonal that is not
    positive. Elementwise, so a batch equals its rows alone (Golub & Van Loan, 4.1.2).
    """
    with np.errstate(all="ignore"):
        scale = np.sqrt(cov[:, DIAGONAL])
        unit: dict[tuple[int, int], F8] = {}
        pivots: list[F8] = []
        for i in range(6):
            for j in range(i + 1):
                at = i * (i + 1) // 2 + j
                value = cov[:, at] / scale[:, i] / scale[:, j]
                for k in range(j):
                    value = value - unit[i, k] * unit[j, k] * pivots[k]
                if i == j:
                    pivots.append(value)
                else:
                    unit[i, j] = value / pivots[j]
        smallest: F8 = np.minimum.reduce(pivots)
    return smallest
