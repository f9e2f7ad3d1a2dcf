"""Information forms: packing, transport in time, folding, fusing. Not where they come from.

The quantity estimated is an object's deviation from its catalogue trajectory, six numbers (m and
m/s, TEME). An observation says of it ``L = H'R^-1 H`` and ``b = H'R^-1 nu``; these add, and the
catalogue's own uncertainty is added once, at the end (DESIGN 9; Maybeck 1979, section 5.7).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sda_pipeline.astro.reference import rtn_axes
from sda_pipeline.astro.vectors import F8, matmul3, transpose3

ROWS, COLS = np.tril_indices(6)  # the packed order: lower triangle by rows
_SLOT = np.zeros((6, 6), dtype=np.int64)  # packed slot of element (i, j), either triangle
_SLOT[ROWS, COLS] = _SLOT[COLS, ROWS] = np.arange(21)
# The blocks of L = [[A, B'], [B, D]], as packed slots.
_A, _B = _SLOT[:3, :3].ravel(), _SLOT[3:, :3].ravel()
_I3, _J3 = np.tril_indices(3)
_D, _D_A = _SLOT[3:, 3:][_I3, _J3], _SLOT[:3, :3][_I3, _J3]
_D_B, _D_BT = _SLOT[3:, :3][_I3, _J3], _SLOT[3:, :3][_J3, _I3]


def unpack21(info: F8) -> F8:
    """Packed lower triangles (m, 21) to symmetric matrices (m, 6, 6)."""
    out = np.empty((len(info), 6, 6))
    out[:, ROWS, COLS] = info
    out[:, COLS, ROWS] = info
    return out


def pack21(mat: F8) -> F8:
    """Lower triangles by rows (m, 21) of matrices (m, 6, 6); the upper triangle is not read."""
    return np.ascontiguousarray(mat[:, ROWS, COLS])


def transition(dt_s: F8) -> F8:
    """``Phi`` of a deviation over ``dt_s`` (m,) seconds: ``[[I, dt I], [0, I]]``, (m, 6, 6).

    Force-free relative motion; costs at most 3 m over 60 s (SPEC 5).
    """
    out = np.zeros((len(dt_s), 6, 6))
    out[:, range(6), range(6)] = 1.0
    out[:, range(3), range(3, 6)] = dt_s[:, None]
    return out


def transport_info(info: F8, vec: F8, dt_s: F8) -> tuple[F8, F8]:
    """Information about the deviation at one time, said about the deviation at another.

    ``info`` (m, 21) and ``vec`` (m, 6) speak of the deviation at ``t_from``; the result speaks of
    the one at ``t_to``, with ``dt_s = t_from - t_to`` (m,): ``delta(t_from) = Phi delta(t_to)``, so
    ``L' = Phi' L Phi`` and ``b' = Phi' b``. Written out per element, in this order:
    ``A' = A, B' = B + dt A, D' = D + dt (B + B') + dt^2 A``.
    """
    dt = dt_s[:, None]
    new_info, new_vec = info.copy(), vec.copy()
    new_info[:, _B] = info[:, _B] + dt * info[:, _A]
    new_info[:, _D] = (
        info[:, _D] + dt * (info[:, _D_B] + info[:, _D_BT]) + (dt * dt) * info[:, _D_A]
    )
    new_vec[:, 3:] = vec[:, 3:] + dt * vec[:, :3]
    return new_info, new_vec


def segment_fold(segment: npt.NDArray[np.int64], count: int, columns: F8) -> F8:
    """The left fold from +0.0 of the rows of each segment, (m, w) -> (count, w).

    ``segment`` (m,) names each row's segment, 0 .. count - 1; rows are added in the order given.
    ``np.bincount`` adds one weight after the other into a zeroed array: exactly that fold.
    """
    out = np.zeros((count, columns.shape[1]))
    for k in range(columns.shape[1]):
        out[:, k] = np.bincount(segment, weights=columns[:, k], minlength=count)
    return out


def prior_information(r: F8, v: F8, sigma: F8) -> F8:
    """Inverse of the catalogue covariance in TEME at the instant of ``r, v``, (m, 6, 6).

    ``r, v`` (m, 3) catalogue state in m, m/s; ``sigma`` (m, 6) one-sigma RTN uncertainties of
    position (m) and velocity (m/s), uncorrelated (SPEC 2).
    """
    axes = rtn_axes(r, v)
    weight = 1.0 / (sigma * sigma)
    out = np.zeros((len(r), 6, 6))
    for block in (slice(0, 3), slice(3, 6)):
        full = matmul3(axes * weight[:, None, block], transpose3(axes))
        lower = np.tril(full)
        out[:, block, block] = lower + transpose3(np.tril(full, -1))  # symmetric to the bit
    return out


def fuse(prior: F8, info: F8, vec: F8) -> tuple[F8, F8]:
    """Estimate the deviation: ``delta`` (m, 6) and its covariance (m, 6, 6).

    ``prior`` (m, 6, 6) is ``P0^-1``, positive definite; ``info`` (m, 6, 6) and ``vec`` (m, 6) are
    the summed observations at the same instant. ``Lambda = prior + info``, ``delta = Lambda^-1 b``.
    Solved with the diagonal scaled to one: metres and metres per second differ by orders of
    magnitude, and the scaling keeps the digits that mixing them would lose.
    """
    lam = prior + info
    scale = 1.0 / np.sqrt(lam[:, range(6), range(6)])
    inverse = np.linalg.inv(lam * scale[:, :, None] * scale[:, None, :])
    cov = 0.5 * (inverse + inverse.transpose(0, 2, 1)) * (scale[:, :, None] * scale[:, None, :])
    weighted = vec * scale
    delta = inverse[:, :, 0] * weighted[:, 0, None]
    for k in range(1, 6):
        delta = delta + inverse[:, :, k] * weighted[:, k, None]
    return delta * scale, cov
