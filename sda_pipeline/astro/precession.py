"""J2000 to TEME: IAU-76 precession and the 13 largest terms of IAU-80 nutation. Not sidereal time.

Source: Vallado, Fundamentals of Astrodynamics and Applications, 3.7 (FK5 reduction); Seidelmann
1982 (nutation). Polar motion, frame bias and the IERS celestial-pole offsets are left out. The
nutation terms left out add to 0.02 arcsec rms, under 1 m at LEO radius.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sda_pipeline.astro.columns import F8, I8
from sda_pipeline.limits import PANE_NS

ARCSEC = np.pi / 648_000.0
J2000_NS = 946_728_000_000_000_000  # 2000-01-01T12:00:00
TT_MINUS_UTC_S = 69.184  # since 2017; a wrong leap second moves the matrix by 1e-11 rad
CENTURY_S = 36_525.0 * 86_400.0
MATRICES_KEPT = 256  # panes; a matrix is 72 bytes

# Delaunay arguments, deg: constant, per century, per century^2, ^3 (IAU-80).
_ARGUMENTS = np.array([
    (134.96298139, 1325 * 360 + 198.8673981, 0.0086972, 1.78e-5),    # l, moon's mean anomaly
    (357.52772333, 99 * 360 + 359.0503400, -0.0001603, -3.3e-6),     # l', sun's mean anomaly
    (93.27191028, 1342 * 360 + 82.0175381, -0.0036825, 3.1e-6),      # F
    (297.85036306, 1236 * 360 + 307.1114800, -0.0019142, 5.3e-6),    # D, moon's elongation
    (125.04452222, -(5 * 360 + 134.1362608), 0.0020708, 2.2e-6),     # Omega, moon's node
])  # fmt: skip

# IAU-80 terms with |dpsi| above 0.0120 arcsec: multiples of (l, l', F, D, Omega); dpsi and its
# rate, deps and its rate, in 0.0001 arcsec (per century).
_NUTATION = np.array([
    (0, 0, 0, 0, 1, -171996.0, -174.2, 92025.0, 8.9),
    (0, 0, 2, -2, 2, -13187.0, -1.6, 5736.0, -3.1),
    (0, 0, 2, 0, 2, -2274.0, -0.2, 977.0, -0.5),
    (0, 0, 0, 0, 2, 2062.0, 0.2, -895.0, 0.5),
    (0, 1, 0, 0, 0, 1426.0, -3.4, 54.0, -0.1),
    (1, 0, 0, 0, 0, 712.0, 0.1, -7.0, 0.0),
    (0, 1, 2, -2, 2, -517.0, 1.2, 224.0, -0.6),
    (0, 0, 2, 0, 1, -386.0, -0.4, 200.0, 0.0),
    (1, 0, 2, 0, 2, -301.0, 0.0, 129.0, -0.1),
    (0, -1, 2, -2, 2, 217.0, -0.5, -95.0, 0.3),
    (1, 0, 0, -2, 0, -158.0, 0.0, -1.0, 0.0),
    (0, 0, 2, -2, 1, 129.0, 0.1, -70.0, 0.0),
    (-1, 0, 2, 0, 2, 123.0, 0.0, -53.0, 0.0),
])  # fmt: skip


def j2000_to_teme(t_ns: int) -> F8:
    """Rotation f8[3,3] taking J2000 vectors to TEME at one time (ns UTC): Rz(dpsi cos eps0) N P."""
    century = ((t_ns - J2000_NS) / 1e9 + TT_MINUS_UTC_S) / CENTURY_S
    zeta = (2306.2181 + (0.30188 + 0.017998 * century) * century) * century * ARCSEC
    theta = (2004.3109 - (0.42665 + 0.041833 * century) * century) * century * ARCSEC
    z = (2306.2181 + (1.09468 + 0.018203 * century) * century) * century * ARCSEC
    eps0 = (84381.448 - (46.8150 + (0.00059 - 0.001813 * century) * century) * century) * ARCSEC
    dpsi, deps = _nutation(century)
    precession = _about_z(-z) @ _about_y(theta) @ _about_z(-zeta)
    nutation = _about_x(-(eps0 + deps)) @ _about_z(-dpsi) @ _about_x(eps0)
    matrix: F8 = _about_z(dpsi * np.cos(eps0)) @ nutation @ precession
    return matrix


def j2000_to_teme_for(panes: I8) -> F8:
    """The matrix of each pane (at its middle), f8[m,3,3] for i8[m]; cached per pane."""
    distinct, inverse = np.unique(panes, return_inverse=True)
    stack = np.empty((3, 3, len(distinct)))
    for n, pane in enumerate(distinct):
        stack[:, :, n] = _of_pane(int(pane))
    return stack[:, :, inverse].transpose(2, 0, 1)


@lru_cache(maxsize=MATRICES_KEPT)
def _of_pane(pane: int) -> F8:
    matrix = j2000_to_teme(pane * PANE_NS + PANE_NS // 2)
    matrix.flags.writeable = False
    return matrix


def _nutation(century: float) -> tuple[float, float]:
    """Nutation in longitude and obliquity, rad."""
    powers = (1.0, century, century * century, century * century * century)
    degrees = [
        float(row[0] + row[1] * powers[1] + row[2] * powers[2] + row[3] * powers[3]) % 360.0
        for row in _ARGUMENTS
    ]
    dpsi = deps = 0.0
    for row in _NUTATION:
        angle = np.radians(sum(float(row[n]) * degrees[n] for n in range(5)))
        dpsi += float((row[5] + row[6] * century) * np.sin(angle))
        deps += float((row[7] + row[8] * century) * np.cos(angle))
    return dpsi * 1e-4 * ARCSEC, deps * 1e-4 * ARCSEC


def _about_x(angle: float) -> F8:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]])


def _about_y(angle: float) -> F8:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])


def _about_z(angle: float) -> F8:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
