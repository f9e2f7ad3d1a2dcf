"""Vectors, frames, sites one number at a time, by the definitions of SPEC 2. No numpy, not fast.

Metres, seconds, radians unless a name says otherwise; times are integer ns since 1970 UTC.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeAlias

from sda_pipeline.astro.catalogue import Catalogue

Vec: TypeAlias = tuple[float, float, float]
Matrix: TypeAlias = tuple[Vec, Vec, Vec]

SECOND = 1_000_000_000
PANE = 5 * SECOND
J2000_NS = 946_728_000 * SECOND  # 2000-01-01 12:00
CENTURY_S = 36_525 * 86_400.0
OMEGA = 7.292115146706979e-5
MU = 3.986008e14  # WGS-72, as SGP4
WGS84_A, WGS84_F = 6_378_137.0, 1.0 / 298.257223563
ARCSEC = math.pi / 648_000.0

# IAU 1980 nutation, the 13 terms above 0.0120 arcsec in dpsi: multiples of l, l', F, D, Omega, then
# dpsi, dpsi per century, deps, deps per century, in 0.0001 arcsec (Seidelmann 1982).
NUTATION = (
    (0, 0, 0, 0, 1, -171996.0, -174.2, 92025.0, 8.9),
    (0, 0, 0, 0, 2, 2062.0, 0.2, -895.0, 0.5),
    (0, 0, 2, -2, 2, -13187.0, -1.6, 5736.0, -3.1),
    (0, 1, 0, 0, 0, 1426.0, -3.4, 54.0, -0.1),
    (0, 1, 2, -2, 2, -517.0, 1.2, 224.0, -0.6),
    (0, -1, 2, -2, 2, 217.0, -0.5, -95.0, 0.3),
    (0, 0, 2, -2, 1, 129.0, 0.1, -70.0, 0.0),
    (0, 0, 2, 0, 2, -2274.0, -0.2, 977.0, -0.5),
    (1, 0, 0, 0, 0, 712.0, 0.1, -7.0, 0.0),
    (0, 0, 2, 0, 1, -386.0, -0.4, 200.0, 0.0),
    (1, 0, 2, 0, 2, -301.0, 0.0, 129.0, -0.1),
    (1, 0, 0, -2, 0, -158.0, 0.0, -1.0, 0.0),
    (-1, 0, 2, 0, 2, 123.0, 0.0, -53.0, 0.0),
)


def pane(t_ns: int) -> int:
    return t_ns // PANE


def tau(index: int) -> int:
    return (index + 1) * PANE


def dot(a: Vec, b: Vec) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vec, b: Vec) -> Vec:
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


def add(a: Vec, b: Vec) -> Vec:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])


def sub(a: Vec, b: Vec) -> Vec:
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


def scaled(k: float, a: Vec) -> Vec:
    return (k * a[0], k * a[1], k * a[2])


def norm(a: Vec) -> float:
    return math.sqrt(dot(a, a))


def unit(a: Vec) -> Vec:
    return scaled(1.0 / norm(a), a)


def times(m: Matrix, v: Vec) -> Vec:
    return (dot(m[0], v), dot(m[1], v), dot(m[2], v))


def product(a: Matrix, b: Matrix) -> Matrix:
    columns = list(zip(*b, strict=True))
    rows = [tuple(dot(row, column) for column in columns) for row in a]
    return (rows[0], rows[1], rows[2])  # type: ignore[return-value]


def rot1(angle: float) -> Matrix:
    c, s = math.cos(angle), math.sin(angle)
    return ((1.0, 0.0, 0.0), (0.0, c, s), (0.0, -s, c))


def rot2(angle: float) -> Matrix:
    c, s = math.cos(angle), math.sin(angle)
    return ((c, 0.0, -s), (0.0, 1.0, 0.0), (s, 0.0, c))


def rot3(angle: float) -> Matrix:
    c, s = math.cos(angle), math.sin(angle)
    return ((c, s, 0.0), (-s, c, 0.0), (0.0, 0.0, 1.0))


def rtn(r: Vec, v: Vec) -> Matrix:
    """Rows are the unit vectors R, T, N."""
    radial, normal = unit(r), unit(cross(r, v))
    return (radial, cross(normal, radial), normal)


def gmst82(t_ns: int, dut1_s: float) -> float:
    """Greenwich mean sidereal time (Aoki et al. 1982); whole days taken off in integers."""
    since = t_ns - J2000_NS + round(dut1_s * SECOND)
    centuries = since / SECOND / CENTURY_S
    seconds = (
        67_310.54841
        + (since % (86_400 * SECOND)) / SECOND
        + centuries * (8_640_184.812866 + centuries * (0.093104 - centuries * 6.2e-6))
    )
    return math.fmod(seconds, 86_400.0) / 86_400.0 * 2.0 * math.pi


def site(
    t_ns: int, lat_deg: float, lon_deg: float, alt_m: float, dut1_s: float
) -> tuple[Vec, Vec, Vec, Vec, Vec]:
    """Position, velocity, east, north, up of a WGS-84 site, all in TEME."""
    lat, lon = math.radians(lat_deg), math.radians(lon_deg)
    slat, clat, slon, clon = math.sin(lat), math.cos(lat), math.sin(lon), math.cos(lon)
    flat = WGS84_F * (2.0 - WGS84_F)
    curve = WGS84_A / math.sqrt(1.0 - flat * slat * slat)
    ecef = (
        (curve + alt_m) * clat * clon,
        (curve + alt_m) * clat * slon,
        (curve * (1.0 - flat) + alt_m) * slat,
    )
    turn = rot3(-gmst82(t_ns, dut1_s))
    p = times(turn, ecef)
    east = times(turn, (-slon, clon, 0.0))
    north = times(turn, (-slat * clon, -slat * slon, clat))
    up = times(turn, (clat * clon, clat * slon, slat))
    return p, cross((0.0, 0.0, OMEGA), p), east, north, up


def j2000_to_teme(t_ns: int) -> Matrix:
    """The matrix of the pane that holds ``t_ns``, taken at the pane's middle."""
    return _j2000_to_teme(pane(t_ns) * PANE + PANE // 2)


@lru_cache(maxsize=64)
def _j2000_to_teme(middle: int) -> Matrix:
    t = ((middle - J2000_NS) / SECOND + 69.184) / CENTURY_S  # TT
    zeta = (2306.2181 * t + 0.30188 * t * t + 0.017998 * t * t * t) * ARCSEC
    theta = (2004.3109 * t - 0.42665 * t * t - 0.041833 * t * t * t) * ARCSEC
    z = (2306.2181 * t + 1.09468 * t * t + 0.018203 * t * t * t) * ARCSEC
    precession = product(rot3(-z), product(rot2(theta), rot3(-zeta)))
    arguments = (
        485866.733 + 1717915922.633 * t + 31.310 * t * t + 0.064 * t * t * t,
        1287099.804 + 129596581.224 * t - 0.577 * t * t - 0.012 * t * t * t,
        335778.877 + 1739527263.137 * t - 13.257 * t * t + 0.011 * t * t * t,
        1072261.307 + 1602961601.328 * t - 6.891 * t * t + 0.019 * t * t * t,
        450160.280 - 6962890.539 * t + 7.455 * t * t + 0.008 * t * t * t,
    )
    dpsi = deps = 0.0
    for *multiples, psi, psi_t, eps, eps_t in NUTATION:
        angle = 0.0
        for multiple, argument in zip(multiples, arguments, strict=True):
            angle += multiple * argument * ARCSEC
        dpsi += (psi + psi_t * t) * 1e-4 * ARCSEC * math.sin(angle)
        deps += (eps + eps_t * t) * 1e-4 * ARCSEC * math.cos(angle)
    eps0 = (84381.448 - 46.8150 * t - 0.00059 * t * t + 0.001813 * t * t * t) * ARCSEC
    nutation = product(rot1(-(eps0 + deps)), product(rot3(-dpsi), rot1(eps0)))
    return product(rot3(dpsi * math.cos(eps0)), product(nutation, precession))


def trajectory(catalogue: Catalogue, index: int, t_ns: int) -> tuple[Vec, Vec]:
    """x(t): four-point Lagrange through scalar SGP4 at the nodes k-1 .. k+2."""
    k = pane(t_ns)
    s = (t_ns - k * PANE) / PANE
    weights = (
        -s * (s - 1.0) * (s - 2.0) / 6.0,
        (s + 1.0) * (s - 1.0) * (s - 2.0) / 2.0,
        -(s + 1.0) * s * (s - 2.0) / 2.0,
        (s + 1.0) * s * (s - 1.0) / 6.0,
    )
    r: Vec = (0.0, 0.0, 0.0)
    v: Vec = (0.0, 0.0, 0.0)
    for weight, node in zip(weights, range(k - 1, k + 3), strict=True):
        node_r, node_v = sgp4_state(catalogue, index, node * PANE)
        r, v = add(r, scaled(weight, node_r)), add(v, scaled(weight, node_v))
    return r, v


def sgp4_state(catalogue: Catalogue, index: int, t_ns: int) -> tuple[Vec, Vec]:
    """Scalar SGP4; NaN where it refuses."""
    days, rest = divmod(t_ns, 86_400 * SECOND)
    error, r, v = catalogue.satrecs[index].sgp4(2_440_587.5 + days, rest / (86_400 * SECOND))
    if error:
        return (math.nan, math.nan, math.nan), (math.nan, math.nan, math.nan)
    return scaled(1000.0, r), scaled(1000.0, v)
