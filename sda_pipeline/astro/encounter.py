"""When two catalogued objects pass each other, and how close. Not how probable a collision is.

The schedule is a pure function of the catalogue, so every incarnation names an encounter alike.
"""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from sda_pipeline.astro.catalogue import Catalogue
from sda_pipeline.astro.fusion import pack21
from sda_pipeline.astro.reference import rtn_axes
from sda_pipeline.astro.vectors import F8, dot3, matmul3, matvec3, transpose3
from sda_pipeline.limits import PANE_NS, SECOND_NS
from sda_pipeline.settings import Physics

PANE_S = PANE_NS / SECOND_NS
TCA_RESOLUTION_NS = 1000
ID_SLOT_NS = 60 * SECOND_NS  # alert_id rounds the TCA to the minute
CLOSING_MAX_M_S = 15_600.0  # of two objects in low orbits, head on
NODES_KEPT = 2
STRAIGHT_M = 200.0  # how far a pair's relative motion strays from a straight line in one pane


class Scheduled(NamedTuple):
    """One encounter of the catalogue trajectories; states are SGP4 at ``tca_ns``, m and m/s."""

    low: int  # satNo, low < high
    high: int
    tca_ns: int
    alert_id: str
    r1: F8
    v1: F8
    r2: F8
    v2: F8
    low_index: int  # in the catalogue
    high_index: int


class PaneSchedule(NamedTuple):
    """A pane's encounters by (tca_ns, low, high), and how many were too slow to be any."""

    encounters: list[Scheduled]
    co_orbital: int


class Approach(NamedTuple):
    """Straight-line closest approach ``t_star`` (m,) s from the input instant; ``dr, dv`` then."""

    t_star: F8
    miss: F8
    speed: F8
    dr: F8
    dv: F8


class NodeCache:
    """Node states of the last panes asked for: the end of one pane is the start of the next.

    A memo only; what ``schedule_pane`` returns does not depend on it.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._states: dict[int, tuple[F8, F8]] = {}

    def get(self, pane: int) -> tuple[F8, F8]:
        """``catalogue.nodes(pane)``, computed at most once while panes come in order."""
        if pane not in self._states:
            self._states[pane] = self._catalogue.nodes(pane)
            while len(self._states) > NODES_KEPT:
                del self._states[next(iter(self._states))]
        return self._states[pane]


def alert_id(low: int, high: int, tca_ns: int) -> str:
    """The encounter's name: 32 hex digits, the same for any TCA within its minute (SPEC 5)."""
    slot = (tca_ns + ID_SLOT_NS // 2) // ID_SLOT_NS
    return hashlib.blake2b(struct.pack("<IIq", low, high, slot), digest_size=16).hexdigest()


def schedule_pane(
    catalogue: Catalogue, pane: int, physics: Physics, nodes: NodeCache | None = None
) -> PaneSchedule:
    """Every encounter whose catalogue TCA lies in ``pane``, a pure function (SPEC 5 "Schedule").

    A pair is kept when ``f = dr.dv`` changes sign from negative between the pane's ends and the
    SGP4 distance at the bisected TCA is at most screening distance plus margin; slower than
    ``co_orbital_m_s`` there it is only counted. ``nodes``, a cache for this catalogue, makes that
    one SatrecArray call a pane when panes come in order.
    """
    reach = 1000.0 * (physics.screening_km + physics.margin_km)
    encounters: list[Scheduled] = []
    co_orbital = 0
    nodes = nodes or NodeCache(catalogue)
    for i, j in _candidates(nodes.get(pane), nodes.get(pane + 1), reach).tolist():
        tca_ns = _bisect(catalogue, i, j, pane)
        (r1, v1), (r2, v2) = catalogue.state_at(i, tca_ns), catalogue.state_at(j, tca_ns)
        dr, dv = (r2 - r1)[None, :], (v2 - v1)[None, :]
        if not dot3(dr, dr)[0] <= reach * reach:
            continue
        if dot3(dv, dv)[0] < physics.co_orbital_m_s * physics.co_orbital_m_s:
            co_orbital += 1
            continue
        low, high = int(catalogue.satno[i]), int(catalogue.satno[j])
        name = alert_id(low, high, tca_ns)
        encounters.append(Scheduled(low, high, tca_ns, name, r1, v1, r2, v2, i, j))
    encounters.sort(key=lambda e: (e.tca_ns, e.low, e.high))
    return PaneSchedule(encounters, co_orbital)


def _candidates(start: tuple[F8, F8], end: tuple[F8, F8], reach: float) -> npt.NDArray[np.int64]:
    """Pairs (p, 2) of catalogue indices, first below second, that may be kept. Drops no keeper.

    Why none is lost. In one pane a pair near enough to matter moves, relative to each other,
    ``dr(t) = dr_0 + dv_0 t + e``. ``|e| <= a t^2 / 2 + c t``: ``a``, the difference of two nearly
    equal gravities, is below 2 mu/r^3 x 100 km = 0.3 m/s^2 (4 m in 5 s); ``c``, by which SGP4's
    velocities differ from its positions' derivative, is under 2 m/s (a test holds it). Together
    far below STRAIGHT_M. So if ``|dr(TCA)| <= reach``,

    - at the mid-point of the chord between the nodes, at most 2.5 s of ``dv`` from the TCA and at
      right angles to ``dr(TCA)``, the pair is within ``hypot(reach, 2.5 s |dv|) + STRAIGHT_M``:
      the tree's radius is no less, with |dv| what the two fastest objects could close at;
    - the straight line through the first node passes within ``reach + STRAIGHT_M``: the filter.

    Both bounds hold for a pair whatever other objects are present, so others change nothing.
    """
    (r0, v0), (r1, v1) = start, end
    sound = np.flatnonzero(np.isfinite(r0[:, 0] + r1[:, 0]))  # an SGP4 error is NaN throughout
    if len(sound) < 2:
        return np.empty((0, 2), dtype=np.int64)
    speed2 = np.maximum(dot3(v0, v0), dot3(v1, v1))[sound]
    fastest = float(np.sum(np.sqrt(np.partition(speed2, -2)[-2:])))
    usual = reach + CLOSING_MAX_M_S * 0.5 * PANE_S  # SPEC 5; enough up to 19 km/s
    radius = max(usual, float(np.hypot(reach, fastest * 0.5 * PANE_S))) + STRAIGHT_M
    middle = 0.5 * (r0[sound] + r1[sound])
    tree = cKDTree(middle, balanced_tree=False)  # the fastest to build and ask, measured
    pairs = sound[tree.query_pairs(radius, output_type="ndarray")]
    i, j = pairs.min(axis=1), pairs.max(axis=1)
    dr, dv = r0[j] - r0[i], v0[j] - v0[i]
    f0, f1 = dot3(dr, dv), dot3(r1[j] - r1[i], v1[j] - v1[i])
    minimum = (f0 < 0) & (f1 >= 0)
    i, j, dr, dv, f0 = i[minimum], j[minimum], dr[minimum], dv[minimum], f0[minimum]
    passing = dr - dv * (f0 / dot3(dv, dv))[:, None]  # f0 < 0, so dv is not zero
    near = dot3(passing, passing) <= (reach + STRAIGHT_M) * (reach + STRAIGHT_M)
    return np.stack((i[near], j[near]), axis=1)


def _bisect(catalogue: Catalogue, i: int, j: int, pane: int) -> int:
    """TCA_cat (ns): upper end of the microsecond of ``pane`` in which ``f`` turns non-negative.

    The pane's very end would already belong to the next pane; such a TCA is moved 1 ns inside, so
    that the pane that finds an encounter is the pane of its TCA.
    """
    low, high = pane * PANE_NS, (pane + 1) * PANE_NS
    last = high - 1
    while high - low > TCA_RESOLUTION_NS:
        middle = (low + high) // 2
        (r1, v1), (r2, v2) = catalogue.state_at(i, middle), catalogue.state_at(j, middle)
        x, y, z = (r2 - r1).tolist()
        u, v, w = (v2 - v1).tolist()
        if x * u + y * v + z * w < 0:
            low = middle
        else:
            high = middle
    return min(high, last)


def closest_approach(dr: F8, dv: F8) -> Approach:
    """Closest approach on a straight line, ``t* = -(dr.dv)/(dv.dv)``.

    ``dr, dv`` (m, 3) relative position (m) and velocity (m/s). Without relative motion the
    distance never changes: ``t* = 0``.
    """
    speed2 = dot3(dv, dv)
    t_star = -dot3(dr, dv) / np.where(speed2 > 0, speed2, 1.0)
    at = dr + dv * t_star[:, None]
    return Approach(t_star, np.sqrt(dot3(at, at)), np.sqrt(speed2), at, dv)


def joint_position_covariance(cov1: F8, cov2: F8, dt_s: F8) -> F8:
    """Sum of two objects' position covariances ``dt_s`` (m,) seconds on, (m, 3, 3) in m^2.

    ``cov1, cov2`` (m, 6, 6) in one frame; both carried by ``Phi = [[I, dt I], [0, I]]``.
    """
    return _carried(cov1, dt_s) + _carried(cov2, dt_s)


def _carried(cov: F8, dt_s: F8) -> F8:
    dt = dt_s[:, None, None]
    cross = cov[:, 3:, :3]
    out: F8 = cov[:, :3, :3] + dt * (cross + transpose3(cross)) + (dt * dt) * cov[:, 3:, 3:]
    return out


def rtn_covariance21(cov: F8, r: F8, v: F8) -> F8:
    """TEME covariances (m, 6, 6) as lower triangles (m, 21) in the RTN axes of ``r, v`` (m, 3)."""
    axes = rtn_axes(r, v)
    out = np.empty_like(cov)
    for rows in (slice(0, 3), slice(3, 6)):
        for cols in (slice(0, 3), slice(3, 6)):
            out[:, rows, cols] = matmul3(matmul3(transpose3(axes), cov[:, rows, cols]), axes)
    return pack21(out)


def rel_pos_rtn(r1: F8, v1: F8, dr: F8) -> F8:
    """Relative positions ``dr`` (m, 3) in the RTN axes of object 1 at ``r1, v1`` (m, 3), metres."""
    return matvec3(transpose3(rtn_axes(r1, v1)), dr)
