"""Reference frames and panes: sidereal time, sites, local axes, RTN. Not orbits, not measurements.

Everything inertial is TEME, metres and seconds; times are int64 ns since 1970 UTC. Angles are
radians unless the name says degrees. ``.T`` views of column arrays are returned on purpose: same
values as a plain (m,3) array, but the next step gets its columns contiguous.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np

from sda_pipeline.astro.columns import F8, I8, columns, rtn_columns
from sda_pipeline.astro.precession import (
    CENTURY_S,
    J2000_NS,
    j2000_to_teme,
    j2000_to_teme_for,
)
from sda_pipeline.limits import PANE_NS

__all__ = [
    "EARTH_RATE", "MU", "Site", "enu_axes", "geodetic_to_ecef", "gmst82", "j2000_to_teme",
    "j2000_to_teme_for", "pane_of", "rotate_z", "rtn_axes", "site_teme", "tau_of",
]  # fmt: skip

EARTH_RATE = 7.292115146706979e-5  # rad/s, of TEME (Vallado, AIAA 2006-6753, appendix C)
MU = 398_600.8e9  # m^3/s^2, WGS-72: the one SGP4 uses
WGS84_A = 6_378_137.0  # m
WGS84_E2 = (2.0 - 1.0 / 298.257223563) / 298.257223563
DAY_NS = 86_400_000_000_000
DAY_S = 86_400.0
TURN = 2.0 * np.pi

IntOrArray = TypeVar("IntOrArray", int, I8)


class Site(NamedTuple):
    """Sensor sites in TEME at the observations' times, each f8[m,3]: m, m/s, geodetic unit axes."""

    p: F8
    v: F8
    east: F8
    north: F8
    up: F8


def pane_of(t_ns: IntOrArray) -> IntOrArray:
    """Pane of a time: floor(t / 5 s) (SPEC 5)."""
    return t_ns // PANE_NS


def tau_of(pane: IntOrArray) -> IntOrArray:
    """End of a pane, ns: (i + 1) x 5 s (SPEC 5)."""
    return (pane + 1) * PANE_NS


def gmst82(t_ns: I8, dut1_s: float) -> F8:
    """Greenwich mean sidereal time, IAU-82 (Aoki et al. 1982), rad in [0, 2 pi); i8[m] -> f8[m].

    UT1 = UTC + ``dut1_s``. The whole days are taken off in integers, so 1e-10 s of time is kept.
    """
    since = t_ns - J2000_NS
    of_day = (since % DAY_NS) / 1e9 + dut1_s
    century = (since / 1e9 + dut1_s) / CENTURY_S
    seconds = (8640184.812866 + (0.093104 - 6.2e-6 * century) * century) * century
    turns = (67310.54841 + of_day + seconds) / DAY_S
    angle: F8 = (turns - np.floor(turns)) * TURN
    return angle


def geodetic_to_ecef(lat_deg: F8, lon_deg: F8, alt_m: F8) -> F8:
    """WGS-84 geodetic latitude, longitude (deg), height (m), each f8[m] -> ECEF metres f8[m,3]."""
    lat, lon = np.radians(lat_deg), np.radians(lon_deg)
    return _geodetic(np.sin(lat), np.cos(lat), np.sin(lon), np.cos(lon), alt_m).T


def enu_axes(lat_deg: F8, lon_deg: F8) -> tuple[F8, F8, F8]:
    """Geodetic east, north, up unit vectors in ECEF, each f8[m,3]; input deg, f8[m]."""
    lat, lon = np.radians(lat_deg), np.radians(lon_deg)
    east, north, up = _axes(np.sin(lat), np.cos(lat), np.sin(lon), np.cos(lon))
    return east.T, north.T, up.T


def rotate_z(angle: F8, vec: F8) -> F8:
    """Turn vectors f8[m,3] about +z by ``angle`` f8[m] rad, counter-clockwise.

    ``rotate_z(gmst82(t, dut1), ecef)`` is TEME (polar motion ignored).
    """
    sine, cosine = np.sin(angle), np.cos(angle)
    x, y, z = columns(vec)
    return np.stack([cosine * x - sine * y, sine * x + cosine * y, z]).T


def site_teme(t_ns: I8, lat: F8, lon: F8, alt_m: F8, dut1_s: float) -> Site:
    """Sites in TEME at their times: geodetic WGS-84 turned by GMST-82, velocity w x p (SPEC 2).

    Args:
        t_ns: i8[m]; lat, lon: geodetic deg f8[m]; alt_m: height over the ellipsoid, m, f8[m].

    A turn about z only moves the longitude, so the turned axes come from longitude + GMST at once.
    """
    phi, theta = np.radians(lat), np.radians(lon) + gmst82(t_ns, dut1_s)
    sin_lat, cos_lat, sin_lon, cos_lon = np.sin(phi), np.cos(phi), np.sin(theta), np.cos(theta)
    p = _geodetic(sin_lat, cos_lat, sin_lon, cos_lon, alt_m)
    v = np.zeros_like(p)
    v[0] = -EARTH_RATE * p[1]
    v[1] = EARTH_RATE * p[0]
    east, north, up = _axes(sin_lat, cos_lat, sin_lon, cos_lon)
    return Site(p.T, v.T, east.T, north.T, up.T)


def rtn_axes(r: F8, v: F8) -> F8:
    """Rotation RTN -> TEME f8[m,3,3], columns R, T, N, of states r, v f8[m,3]; NaN in, NaN out."""
    with np.errstate(all="ignore"):
        return rtn_columns(columns(r), columns(v)).transpose(2, 1, 0)


def _geodetic(sin_lat: F8, cos_lat: F8, sin_lon: F8, cos_lon: F8, alt_m: F8) -> F8:
    prime = WGS84_A / np.sqrt(1.0 - WGS84_E2 * (sin_lat * sin_lat))
    ring = (prime + alt_m) * cos_lat
    return np.stack([ring * cos_lon, ring * sin_lon, (prime * (1.0 - WGS84_E2) + alt_m) * sin_lat])


def _axes(sin_lat: F8, cos_lat: F8, sin_lon: F8, cos_lon: F8) -> tuple[F8, F8, F8]:
    zero = np.zeros_like(cos_lat)
    east = np.stack([-sin_lon, cos_lon, zero])
    north = np.stack([-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat])
    up = np.stack([cos_lat * cos_lon, cos_lat * sin_lon, sin_lat])
    return east, north, up
