"""Probability of collision by adaptive quadrature, along the other axis than the core. Not fast.

The core integrates along the major axis of the encounter plane with fixed Gauss-Legendre nodes;
here the outer integral runs along the minor axis and its pieces are halved until they agree.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr

from tests.reference.slow_geometry import Vec, cross, dot, norm, unit

NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)
AGREE = 1e-13  # of the whole, per piece
PIECES, HALVINGS = 32, 60


class Plane(NamedTuple):
    """The encounter plane in its principal axes: distances >= 0, sigma1 <= sigma2, metres."""

    x: float
    y: float
    sigma1: float
    sigma2: float
    clipped: bool

    @property
    def mahalanobis(self) -> float:
        return math.sqrt((self.x / self.sigma1) ** 2 + (self.y / self.sigma2) ** 2)


def plane(dr: Vec, dv: Vec, cov: np.ndarray, radius: float) -> Plane:
    """Project normal to dv; eigenvalues <= 0 become (1e-4 radius)^2."""
    along = unit(dv)
    axes: tuple[Vec, Vec, Vec] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    least = min(axes, key=lambda axis: abs(dot(axis, along)))
    one = unit(cross(along, least))
    two = cross(along, one)
    basis = np.array([one, two])
    values, vectors = np.linalg.eigh(basis @ cov @ basis.T)
    flat = np.array([dot(dr, one), dot(dr, two)])
    floor = (1e-4 * radius) ** 2
    sides = []
    for k in range(2):
        value = float(values[k])
        sides.append((value if value > 0.0 else floor, abs(float(vectors[:, k] @ flat))))
    (small, x), (large, y) = sorted(sides)
    return Plane(x, y, math.sqrt(small), math.sqrt(large), bool(values[0] <= 0.0))


def log_between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """log(Phi(high) - Phi(low)) for low < high."""
    flip = low + high > 0.0  # the tail in which the difference keeps its digits
    near = np.where(flip, -low, high)
    far = np.where(flip, -high, low)
    upper = log_ndtr(near)
    with np.errstate(divide="ignore", under="ignore"):
        return upper + np.log1p(-np.exp(np.minimum(log_ndtr(far) - upper, 0.0)))


def collision_probability(at: Plane, radius: float) -> float:
    """Integral of the plane's normal density over the disc |p| <= radius about the origin."""

    def log_density(angle: np.ndarray) -> np.ndarray:
        along, h = radius * np.sin(angle), radius * np.cos(angle)
        inner = log_between((-h - at.y) / at.sigma2, (h - at.y) / at.sigma2)
        scale = h / (at.sigma1 * math.sqrt(2.0 * math.pi))
        return inner - 0.5 * ((along - at.x) / at.sigma1) ** 2 + np.log(scale)

    edges = set(np.linspace(-0.5 * math.pi, 0.5 * math.pi, PIECES + 1).tolist())
    for k in (-30.0, -10.0, -3.0, -1.0, 0.0, 1.0, 3.0, 10.0, 30.0):
        sine = (at.x + k * at.sigma1) / radius
        if abs(sine) < 1.0:
            edges.add(math.asin(sine))
    ordered = np.array(sorted(edges))
    low, high = ordered[:-1], ordered[1:]
    top = float(np.max(log_density(_nodes(low, high))))
    if top == -math.inf:
        return 0.0

    def pieces(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        values = np.exp(log_density(_nodes(a, b)) - top)
        return (values * WEIGHTS).sum(axis=1) * 0.5 * (b - a)

    total, rough = 0.0, pieces(low, high)
    whole = float(rough.sum())
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        left, right = pieces(low, middle), pieces(middle, high)
        fine = left + right
        whole = max(whole, total + float(fine.sum()))
        done = np.abs(fine - rough) <= AGREE * whole
        total += float(fine[done].sum())
        if done.all():
            return math.exp(top + math.log(total))
        again = ~done
        low, high = (
            np.concatenate([low[again], middle[again]]),
            np.concatenate([middle[again], high[again]]),
        )
        rough = np.concatenate([left[again], right[again]])
    raise ArithmeticError(f"the integral does not settle: {at}")


def _nodes(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return 0.5 * (low + high)[:, None] + 0.5 * (high - low)[:, None] * NODES


def flags(dr: Vec, dv: Vec, cov: np.ndarray, at: Plane, period_s: float) -> list[str]:
    """What is unusual about the encounter (SPEC 5, Pc): npd, offset, extended."""
    inverse = np.linalg.inv(cov)
    r, v = np.array(dr), np.array(dv)
    a, b = float(v @ inverse @ v), 2.0 * float(r @ inverse @ v)
    found = ["npd"] if at.clipped else []
    if abs(b / (2.0 * a)) / period_s > 0.01:
        found.append("offset")
    if 9.8 / math.sqrt(a) / period_s > 0.02 or norm(dv) < 200.0:
        found.append("extended")
    return found
