"""The slow reference's integral against mpmath: it judges the core, so somebody must judge it."""

from __future__ import annotations

import mpmath
import pytest

from tests.reference.slow_pc import Plane, collision_probability

CASES = [  # x, y, sigma1, sigma2, radius; from a hit through the thresholds to the far tail
    (0.0, 0.0, 30.0, 90.0, 20.0),
    (40.0, 10.0, 15.0, 60.0, 20.0),
    (150.0, 200.0, 30.0, 80.0, 20.0),
    (5.0, 2.0, 0.4, 300.0, 20.0),
    (25.0, 0.0, 1.0, 1.0, 20.0),
    (400.0, 100.0, 25.0, 70.0, 20.0),
    (900.0, 0.0, 40.0, 40.0, 5.0),
]


def integral(plane: Plane, radius: float) -> mpmath.mpf:
    """Along the major axis, in 30 digits; Gauss-Legendre on pieces around the peak."""
    with mpmath.workdps(30):
        x, y, s1, s2, big = (mpmath.mpf(v) for v in (*plane[:4], radius))

        def inner(angle: mpmath.mpf) -> mpmath.mpf:
            h, at = big * mpmath.cos(angle), big * mpmath.sin(angle)
            root = s1 * mpmath.sqrt(2)
            mass = (mpmath.erfc((x - h) / root) - mpmath.erfc((x + h) / root)) / 2
            return mass * mpmath.npdf(at, y, s2) * h

        edge = mpmath.acos(min(x / big, mpmath.mpf(1)))
        ends = [-mpmath.pi / 2, mpmath.pi / 2]
        near = {edge + k * s1 / big for k in (-20, -5, -1, 0, 1, 5, 20)}
        cuts = sorted(c for one in near for c in (one, -one) if ends[0] < c < ends[1])
        # mpmath's quad stops by an absolute error: bring the integrand to about one.
        top = max(inner(mpmath.pi * k / 400) for k in range(-199, 200))
        return top * mpmath.quad(lambda angle: inner(angle) / top, [ends[0], *cuts, ends[1]])


@pytest.mark.parametrize(("x", "y", "s1", "s2", "radius"), CASES)
def test_probability(x: float, y: float, s1: float, s2: float, radius: float) -> None:
    plane = Plane(x, y, s1, s2, clipped=False)
    expected = integral(plane, radius)
    assert abs(collision_probability(plane, radius) / expected - 1) < 1e-11
