"""Products of stacks of 3-vectors and 3x3 blocks as explicit sums, batch first. Not physics.

Every result is a fixed sequence of IEEE operations on its own element, so that an element of a
batch equals, bit for bit, the same element computed alone (SPEC 5).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F8 = npt.NDArray[np.float64]


def dot3(a: F8, b: F8) -> F8:
    """Scalar products of two stacks of vectors, (m, 3) x (m, 3) -> (m,)."""
    out: F8 = a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]
    return out


def cross3(a: F8, b: F8) -> F8:
    """Vector products of two stacks of vectors, (m, 3) x (m, 3) -> (m, 3)."""
    return np.stack(
        (
            a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1],
            a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2],
            a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0],
        ),
        axis=1,
    )


def matvec3(mat: F8, vec: F8) -> F8:
    """``mat @ vec`` of each element, (m, 3, 3) x (m, 3) -> (m, 3)."""
    out: F8 = (
        mat[:, :, 0] * vec[:, 0, None]
        + mat[:, :, 1] * vec[:, 1, None]
        + mat[:, :, 2] * vec[:, 2, None]
    )
    return out


def matmul3(a: F8, b: F8) -> F8:
    """``a @ b`` of each element, (m, 3, 3) x (m, 3, 3) -> (m, 3, 3)."""
    out: F8 = (
        a[:, :, 0, None] * b[:, None, 0, :]
        + a[:, :, 1, None] * b[:, None, 1, :]
        + a[:, :, 2, None] * b[:, None, 2, :]
    )
    return out


def transpose3(mat: F8) -> F8:
    """The transpose of each element, (m, 3, 3) -> (m, 3, 3), a view."""
    return mat.transpose(0, 2, 1)
