"""From a Cartesian state to SGP4 mean elements and to element lines. Not orbit determination.

A state is matched at the epoch only: the mean elements are those whose SGP4 state at tsince = 0
is the wanted one. Fixed point over non-singular elements (a, e cos w, e sin w, i, node, w + M):
the difference of osculating elements is added to the mean ones until the state is reproduced
(Vallado, Fundamentals of Astrodynamics, 4th ed., section 11.4; SPEC 12).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sgp4.api import WGS72, Satrec
from sgp4.exporter import export_tle

from sda_pipeline.astro.catalogue import DAY_NS, julian
from sda_pipeline.errors import SdaError

Vec = npt.NDArray[np.float64]

MU_KM3_S2 = 398_600.8  # WGS-72, the constants of SGP4
GRID_NS = 864_000  # an element set's epoch has 8 digits of a day
SGP4_EPOCH_DAYS = 7306  # 1949-12-31 to 1970-01-01
_TWO_PI = 2.0 * math.pi
_ITERATIONS_MAX = 60
_CLOSE_KM = 1e-6  # 1 mm: far below the 1e-4 deg (12 m) of the printed elements


class Elements(NamedTuple):
    """SGP4 mean elements: rad/min, radians; ``bstar`` per Earth radius."""

    satno: int
    name: str
    epoch_ns: int  # on the grid of 1e-8 day
    no_kozai: float
    ecco: float
    inclo: float
    nodeo: float
    argpo: float
    mo: float
    bstar: float = 0.0


def on_grid(t_ns: int) -> int:
    """The nearest instant an element set can state as its epoch."""
    return (t_ns + GRID_NS // 2) // GRID_NS * GRID_NS


def state(satrec: Satrec, t_ns: int) -> tuple[Vec, Vec]:
    """SGP4 position (m) and velocity (m/s) in TEME, each (3,); NaN where SGP4 refuses."""
    error, r, v = satrec.sgp4(*julian(t_ns))
    if error:
        return np.full(3, np.nan), np.full(3, np.nan)
    return np.array(r) * 1000.0, np.array(v) * 1000.0


def make_satrec(elements: Elements) -> Satrec:
    """Initialise SGP4 (improved mode, WGS-72) with exactly these elements, unrounded."""
    satrec = Satrec()
    satrec.sgp4init(
        WGS72, "i", elements.satno, SGP4_EPOCH_DAYS + elements.epoch_ns / DAY_NS,
        elements.bstar, 0.0, 0.0, elements.ecco, elements.argpo, elements.inclo, elements.mo,
        elements.no_kozai, elements.nodeo,
    )  # fmt: skip
    return satrec


def element_lines(elements: Elements) -> tuple[str, str, str]:
    """Name line and the two element lines, rounded as printed, checksums right."""
    one, two = export_tle(make_satrec(elements))
    return elements.name, one, two


def osculating(r_km: Vec, v_km_s: Vec) -> Vec:
    """Keplerian state as (a km, e cos w, e sin w, i, node, w + M), angles in radians.

    Not defined for an unbound state or an equatorial orbit (i = 0 or 180 deg).
    """
    h = np.cross(r_km, v_km_s)
    radius = float(np.linalg.norm(r_km))
    energy = float(v_km_s @ v_km_s) / 2.0 - MU_KM3_S2 / radius
    a = -MU_KM3_S2 / (2.0 * energy)
    inclination = math.atan2(math.hypot(h[0], h[1]), h[2])
    node = math.atan2(h[0], -h[1])
    along = np.array([math.cos(node), math.sin(node), 0.0])  # towards the ascending node
    across = np.cross(h / np.linalg.norm(h), along)
    latitude = math.atan2(float(r_km @ across), float(r_km @ along))  # argument of latitude
    e_vec = np.cross(v_km_s, h) / MU_KM3_S2 - r_km / radius
    ex, ey = float(e_vec @ along), float(e_vec @ across)
    e, w = math.hypot(ex, ey), math.atan2(ey, ex)
    nu = latitude - w
    ecc_anomaly = math.atan2(math.sqrt(max(0.0, 1 - e * e)) * math.sin(nu), e + math.cos(nu))
    mean = ecc_anomaly - e * math.sin(ecc_anomaly)
    return np.array([a, ex, ey, inclination, node, w + mean])


def _to_elements(x: Vec, satno: int, name: str, epoch_ns: int, bstar: float) -> Elements:
    a, ex, ey, inclination, node, longitude = (float(value) for value in x)
    argpo = math.atan2(ey, ex)
    motion = math.sqrt(MU_KM3_S2 / (a * a * a)) * 60.0
    return Elements(
        satno, name, epoch_ns, motion, math.hypot(ex, ey), inclination, node % _TWO_PI,
        argpo % _TWO_PI, (longitude - argpo) % _TWO_PI, bstar,
    )  # fmt: skip


def mean_elements(
    satno: int, name: str, epoch_ns: int, r_m: Vec, v_m_s: Vec, *, bstar: float = 0.0
) -> Elements:
    """The mean elements whose SGP4 state at ``epoch_ns`` (on the grid) is (r, v), to 1 mm.

    r (3,) m and v (3,) m/s, TEME. Raises SdaError when the fixed point does not converge (near-
    equatorial, decaying or unbound states).
    """
    r_km, v_km_s = r_m / 1000.0, v_m_s / 1000.0
    wanted = osculating(r_km, v_km_s)
    x = wanted.copy()
    for _ in range(_ITERATIONS_MAX):
        if not (x[0] > 0.0 and math.hypot(x[1], x[2]) < 1.0):
            break  # unbound
        elements = _to_elements(x, satno, name, epoch_ns, bstar)
        error, r, v = make_satrec(elements).sgp4_tsince(0.0)
        if error:
            break
        if float(np.linalg.norm(np.array(r) - r_km)) < _CLOSE_KM:
            return elements
        step = wanted - osculating(np.array(r), np.array(v))
        step[4:] = (step[4:] + math.pi) % _TWO_PI - math.pi  # angles by the short way
        x = x + step
    raise SdaError(
        "engineer an encounter", f"no mean elements reproduce the state of object {satno}",
        "choose another orbit",
    )  # fmt: skip
