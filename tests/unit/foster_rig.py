"""What the Foster tests compare with: direct integration in high precision, none of the core."""

from __future__ import annotations

from itertools import pairwise

import mpmath as mp
import numpy as np


def exact(x: float, y: float, s1: float, s2: float, radius: float) -> mp.mpf:
    """The disc's mass to 20 digits; the other way round: outer along x', inner exact over y'.

    Scaled to order one (mp.quad stops on an absolute error) and cut where the integrand bends.
    """
    with mp.workdps(24):
        x, y, s1, s2, r = (mp.mpf(float(value)) for value in (x, y, s1, s2, radius))
        root2 = mp.sqrt(2)

        def exponent(t: mp.mpf) -> mp.mpf:
            u, w = max(y - r * mp.cos(t), 0) / s2, (r * mp.sin(t) - x) / s1
            return -(u * u + w * w) / 2

        low, high = mp.mpf(0), mp.pi / 2
        for _ in range(80):
            a, b = low + (high - low) / 3, high - (high - low) / 3
            low, high = (a, high) if exponent(a) < exponent(b) else (low, b)
        peak = (low + high) / 2
        top = exponent(peak)

        def value(t: mp.mpf) -> mp.mpf:
            h = r * mp.cos(t)
            inner = mp.erfc((y - h) / (s2 * root2)) - mp.erfc((y + h) / (s2 * root2))
            return inner / 2 * mp.exp(-(((r * mp.sin(t) - x) / s1) ** 2) / 2 - top) * h

        def end(outside: mp.mpf) -> mp.mpf:
            inside = peak
            if exponent(outside) >= top - 55:
                return outside
            for _ in range(50):
                middle = (inside + outside) / 2
                below = exponent(middle) < top - 55
                inside, outside = (inside, middle) if below else (middle, outside)
            return outside

        cuts = {end(-mp.pi / 2), peak, end(mp.pi / 2)}
        bends = [(y + k * s2) / r for k in (-10, 0, 10)]
        turns = [sign * mp.acos(bend) for bend in bends if 0 <= bend <= 1 for sign in (-1, 1)]
        cuts |= {turn for turn in turns if min(cuts) < turn < max(cuts)}
        ends = sorted(cuts)
        points = [a + (b - a) * i / 4 for a, b in pairwise(ends) for i in range(4)]
        points.append(ends[-1])
        scale = max(value((a + 2 * b) / 3) for a, b in pairwise(points))
        mass = mp.quad(lambda t: value(t) / scale, points, method="gauss-legendre")
        return mass * scale * mp.exp(top) / (s1 * mp.sqrt(2 * mp.pi))


def exact_plane(dr: np.ndarray, dv: np.ndarray, cov: np.ndarray) -> list[mp.mpf]:
    """Principal offsets and sigmas in the encounter plane, from the doubles given, in mpmath."""
    with mp.workdps(40):
        basis = mp.matrix(3, 2)
        v = [mp.mpf(float(c)) for c in dv]
        norm = mp.sqrt(sum(c * c for c in v))
        e = [c / norm for c in v]
        other = [e[1], -e[0], mp.mpf(0)] if abs(e[2]) < 0.9 else [mp.mpf(0), e[2], -e[1]]
        norm = mp.sqrt(sum(c * c for c in other))
        p = [c / norm for c in other]
        q = [e[1] * p[2] - e[2] * p[1], e[2] * p[0] - e[0] * p[2], e[0] * p[1] - e[1] * p[0]]
        for k in range(3):
            basis[k, 0], basis[k, 1] = p[k], q[k]
        projected = basis.T * mp.matrix([[mp.mpf(float(c)) for c in row] for row in cov]) * basis
        values, vectors = mp.eigsy(projected)
        offset = vectors.T * (basis.T * mp.matrix([mp.mpf(float(c)) for c in dr]))
        return [abs(offset[0]), abs(offset[1]), mp.sqrt(values[0]), mp.sqrt(values[1])]


Case = tuple[float, float, float, float, float]


def geometries(seed: int, count: int, depth: float, widest: float = 2.5) -> list[Case]:
    """(x, y, s1, s2, radius): the disc up to ``depth`` sigmas away, sigma ratios up to 1e4.

    ``s1`` runs from 0.01 to ``10 ** widest`` radii.
    """
    rng = np.random.default_rng(seed)
    cases = []
    for _ in range(count):
        radius = float(rng.choice([5.0, 20.0, 50.0]))
        s1 = radius * 10 ** rng.uniform(-2, widest)
        s2 = s1 * 10 ** (4 * rng.uniform(0, 1) ** 2)
        sigmas, angle = rng.uniform(0, depth), rng.uniform(0, np.pi / 2)
        x = abs(rng.uniform(-radius, radius) + sigmas * s1 * np.cos(angle))
        y = abs(rng.uniform(-radius, radius) + sigmas * s2 * np.sin(angle))
        cases.append((x, y, s1, s2, radius))
    return cases
