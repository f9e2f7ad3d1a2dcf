"""Probability of collision of a short encounter, Foster 2-D, with its flags. Not the geometry.

Foster and Estes (1992), JSC-25898: the relative position at closest approach, projected on the
plane normal to the relative velocity, is Gaussian; Pc is its mass inside the hard-body disc.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from sda_pipeline.astro.vectors import F8, cross3, dot3, matvec3

Bools = npt.NDArray[np.bool_]

NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)
EXPONENT_SPAN = 45.0  # what lies e^-45 under the peak cannot move the ninth digit
BISECTIONS = 30  # of an angle: 1.5e-9 rad, far inside the narrowest support
CLIP_OF_HBR = 1e-4  # a covariance's smallest admitted sigma, of the hard-body radius
# Under this sigma / radius, 64 nodes a piece no longer see the edge of the inner integral
# (measured against mpmath: 1e-13 at 0.03, 7e-9 at 0.01, 8e-6 at 0.003): cut around the edge too.
THIN_OF_HBR, THIN_SIGMAS = 0.01, 9.5
OFFSET_MAX, EXTENDED_MAX, SLOW_M_S, SPAN_SIGMAS = 0.01, 0.02, 200.0, 9.8


class Pc(NamedTuple):
    """Result per encounter: ``pc`` and in-plane ``mahalanobis`` (m,), ``flags`` in fixed order."""

    pc: F8
    mahalanobis: F8
    flags: list[tuple[str, ...]]  # of 'npd', 'offset', 'extended'


class Plane(NamedTuple):
    """The encounter plane in its principal axes: ``s1 <= s2`` sigmas, ``x, y >= 0`` offsets (m)."""

    x: F8
    y: F8
    s1: F8
    s2: F8


def foster(dr: F8, dv: F8, cov_joint: F8, hbr_m: float, period_s: F8) -> Pc:
    """Foster 2-D probability of collision, relative error <= 1e-6 down to 1e-290.

    ``dr, dv`` (m, 3) relative position (m) and velocity (m/s, not zero) at closest approach,
    ``cov_joint`` (m, 3, 3) summed position covariance (m^2) there, ``hbr_m`` combined hard-body
    radius (m), ``period_s`` (m,) orbital period of object 1. Inputs must be finite.

    Flags (SPEC 5; Coppola 2012, Hall 2021): ``npd`` an eigenvalue in the plane is not positive;
    ``offset`` the peak of the collision rate lies far from closest approach; ``extended`` the
    encounter lasts too long, or is too slow, for a straight line. What cannot be computed
    (a singular covariance) counts as flagged.
    """
    plane, npd = encounter_plane(dr, dv, cov_joint, hbr_m)
    pc = disc_probability(plane, hbr_m)
    u, w = plane.x / plane.s1, plane.y / plane.s2
    offset, extended = _duration_flags(dr, dv, cov_joint, period_s)
    names = ("npd", "offset", "extended")
    flags = [
        tuple(name for name, on in zip(names, row, strict=True) if on)
        for row in zip(npd.tolist(), offset.tolist(), extended.tolist(), strict=True)
    ]
    return Pc(pc, np.sqrt(u * u + w * w), flags)


def encounter_plane(dr: F8, dv: F8, cov: F8, hbr_m: float) -> tuple[Plane, Bools]:
    """Project on the plane normal to ``dv`` and turn to principal axes.

    Variances under ``(1e-4 HBR)^2`` are clipped to it; the mask says where one was not positive.
    """
    e = dv / np.sqrt(dot3(dv, dv))[:, None]
    helper = np.eye(3)[np.argmin(np.abs(e), axis=1)]  # the axis farthest from dv
    p = cross3(helper, e)
    p = p / np.sqrt(dot3(p, p))[:, None]
    q = cross3(e, p)
    cp, cq = matvec3(cov, p), matvec3(cov, q)
    a, b, c = dot3(p, cp), 0.5 * (dot3(q, cp) + dot3(p, cq)), dot3(q, cq)
    mean, half = 0.5 * (a + c), 0.5 * (a - c)
    radius = np.sqrt(half * half + b * b)
    big = mean + radius
    positive = big > 0
    # det / big keeps the digits of the small eigenvalue that mean - radius would cancel
    small = np.where(positive, (a * c - b * b) / np.where(positive, big, 1.0), mean - radius)
    npd = ~((small > 0) & positive)
    floor = (CLIP_OF_HBR * hbr_m) * (CLIP_OF_HBR * hbr_m)
    # the eigenvector of the big one, by whichever of its two forms does not cancel
    upper = half >= 0
    ax, ay = np.where(upper, radius + half, b), np.where(upper, b, radius - half)
    norm = np.sqrt(ax * ax + ay * ay)
    round_ = norm == 0  # a circle: any axes will do
    norm = np.where(round_, 1.0, norm)
    ax, ay = np.where(round_, 1.0, ax / norm), ay / norm
    dp, dq = dot3(dr, p), dot3(dr, q)
    plane = Plane(
        np.abs(ax * dq - ay * dp),
        np.abs(ax * dp + ay * dq),
        np.sqrt(np.maximum(small, floor)),
        np.sqrt(np.maximum(big, floor)),
    )
    return plane, npd


def disc_probability(plane: Plane, hbr_m: float) -> F8:
    """Mass inside the disc of radius ``hbr_m`` at the origin of the plane's Gaussian, (m,).

    The inner integral, along ``x``, is exact (ndtr); the outer one over ``theta``,
    ``y' = R sin theta``, takes 64 Gauss-Legendre nodes on each of three pieces of the support,
    cut where the disc's half-width ``h = R cos theta`` equals ``x`` (SPEC 5).
    """
    low, high = _support(plane, hbr_m)
    edge = np.arccos(np.minimum(plane.x / hbr_m, 1.0))
    pc = _integrate(plane, hbr_m, (low, -edge, edge, high))
    thin = plane.s1 < THIN_OF_HBR * hbr_m
    if thin.any():
        plane = Plane(*(column[thin] for column in plane))
        low, high, edge = low[thin], high[thin], edge[thin]
        inner = np.arccos(np.minimum((plane.x + THIN_SIGMAS * plane.s1) / hbr_m, 1.0))
        pc[thin] = _integrate(plane, hbr_m, (low, -edge, -inner, inner, edge, high))
    return np.minimum(pc, 1.0)


def _integrate(plane: Plane, radius: float, cuts: tuple[F8, ...]) -> F8:
    """Foster's outer integral over the pieces between ``cuts``, which are clipped to the ends."""
    x, y, s1, s2 = plane
    ends = [np.clip(cut, cuts[0], cuts[-1]) for cut in cuts]
    total = np.zeros(len(x))
    for low, high in pairwise(ends):
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        theta = middle + half * NODES[:, None]  # (64, m)
        h, w = radius * np.cos(theta), (radius * np.sin(theta) - y) / s2
        inner = ndtr((h - x) / s1) - ndtr((-h - x) / s1)
        value = inner * np.exp(-0.5 * (w * w)) * h * WEIGHTS[:, None]
        while len(value) > 1:  # a fixed tree of sums, whatever the batch
            value = value[: len(value) // 2] + value[len(value) // 2 :]
        total = total + value[0] * half
    out: F8 = total / (s2 * np.sqrt(2.0 * np.pi))
    return out


def _exponent(theta: F8, plane: Plane, radius: float) -> F8:
    """The integrand's exponent: minus half the squared distance, in sigmas, to the chord."""
    u = np.maximum(plane.x - radius * np.cos(theta), 0.0) / plane.s1
    w = (radius * np.sin(theta) - plane.y) / plane.s2
    out: F8 = -0.5 * (u * u + w * w)
    return out


def _support(plane: Plane, radius: float) -> tuple[F8, F8]:
    """The part of [-pi/2, pi/2] whose exponent is within EXPONENT_SPAN of its maximum.

    The exponent is concave in ``y'`` (a squared distance to a convex set), so it has one peak and
    the part is one interval; with ``y >= 0`` the peak lies in [0, pi/2].
    """
    x, y, s1, s2 = plane
    v1, v2 = s1 * s1, s2 * s2
    low, high = np.zeros(len(x)), np.full(len(x), 0.5 * np.pi)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        h, at = radius * np.cos(middle), radius * np.sin(middle)
        rising = (y - at) * h / v2 > np.maximum(x - h, 0.0) * at / v1
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    peak = 0.5 * (low + high)
    # both ends in one bisection, (2m,): the lower ends first
    twice = Plane(*(np.tile(column, 2) for column in plane))
    inside, limit = np.concatenate((peak, peak)), np.repeat((-0.5 * np.pi, 0.5 * np.pi), len(peak))
    least = _exponent(inside, twice, radius) - EXPONENT_SPAN
    whole, outside = _exponent(limit, twice, radius) >= least, limit
    for _ in range(BISECTIONS):
        middle = 0.5 * (inside + outside)
        below = _exponent(middle, twice, radius) < least
        outside, inside = np.where(below, middle, outside), np.where(below, inside, middle)
    end = np.where(whole, limit, outside)
    return end[: len(peak)], end[len(peak) :]


def _duration_flags(r: F8, v: F8, cov: F8, period_s: F8) -> tuple[Bools, Bools]:
    """(offset, extended): ``a = v'C^-1 v``, ``b = 2 r'C^-1 v`` against the period (SPEC 5)."""
    c00, c10, c11 = cov[:, 0, 0], cov[:, 1, 0], cov[:, 1, 1]
    c20, c21, c22 = cov[:, 2, 0], cov[:, 2, 1], cov[:, 2, 2]
    adj = np.empty_like(cov)  # the adjugate: C^-1 times the determinant, which b / a does not need
    adj[:, 0, 0] = c11 * c22 - c21 * c21
    adj[:, 1, 0] = adj[:, 0, 1] = c20 * c21 - c10 * c22
    adj[:, 2, 0] = adj[:, 0, 2] = c10 * c21 - c20 * c11
    adj[:, 1, 1] = c00 * c22 - c20 * c20
    adj[:, 2, 1] = adj[:, 1, 2] = c10 * c20 - c00 * c21
    adj[:, 2, 2] = c00 * c11 - c10 * c10
    det = c00 * adj[:, 0, 0] + c10 * adj[:, 1, 0] + c20 * adj[:, 2, 0]
    w = matvec3(adj, v)
    with np.errstate(divide="ignore", invalid="ignore"):
        peak_s = np.abs(dot3(r, w) / dot3(v, w))
        sigma_s = np.sqrt(det / dot3(v, w))  # NaN where C is not positive definite along v
        offset = ~(peak_s / period_s <= OFFSET_MAX)
        slow = ~(np.sqrt(dot3(v, v)) >= SLOW_M_S)
        extended = ~(SPAN_SIGMAS * sigma_s / period_s <= EXTENDED_MAX) | slow
    return offset, extended
