"""Engineered encounters: a partner put on a collision course with an object of the background.

The *true* miss is chosen, not the catalogue's: the partner's catalogue state at T is the
primary's plus the wanted miss minus the difference of the two offsets in the encounter plane
(SPEC 12). Not how it is observed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sgp4.api import Satrec, SatrecArray

from sda_pipeline.astro.catalogue import julian
from sda_pipeline.cli.sim.mean_elements import (
    element_lines,
    mean_elements,
    on_grid,
    osculating,
    state,
)
from sda_pipeline.cli.sim.truth import displaced
from sda_pipeline.cli.sim.visibility import Mask, Sites, visible
from sda_pipeline.errors import SdaError
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.settings import OPTICAL, RADAR

F8 = npt.NDArray[np.float64]

FIRST_AFTER_S = 12.0  # the first encounter after T0: visibly alive within 30 s
# Share of the encounters, true miss from and to (m): half are hits, a few are none of anybody's
# business.
MISS_MIX = ((0.50, 0.0, 60.0), (0.20, 60.0, 150.0), (0.20, 150.0, 600.0), (0.10, 600.0, 3000.0))
CROSSING_DEG = (20.0, 170.0)  # angle between the velocities: 2.6 to 15 km/s
INCLINATION_DEG = (10.0, 150.0)  # away from the equatorial singularity
PERIGEE_RADIUS_KM = 6378.0 + 280.0
SAMPLE_MAX = 600  # candidates looked at for one encounter
TRIES_MAX = 200
WITH_TELESCOPE = 0.4  # share of the encounters that rather take place over a telescope
SEEN_BEFORE_NS = (0, 30 * SECOND_NS)  # a primary is to be in view then, before its encounter

assert abs(sum(share for share, _, _ in MISS_MIX) - 1.0) < 1e-12


class Pool(NamedTuple):
    """The objects an encounter may use; n of them. ``used`` is written by the engineering."""

    satno: list[int]
    satrecs: list[Satrec]
    offsets: F8  # (n,3) m, RTN
    used: Mask


class Engineered(NamedTuple):
    """One encounter as it was asked for."""

    primary: int
    partner: int
    t_ns: int
    wanted_m: float
    lines: tuple[str, str, str]
    satrec: Satrec  # the partner, read back from its rounded lines


def encounter_times(
    rng: np.random.Generator, epoch_ns: int, minutes: float, per_minute: float
) -> list[int]:
    """When: evenly with jitter over ``minutes``, the first after 12 s; on the element grid."""
    count = round(minutes * per_minute)
    step_s = 60.0 / per_minute
    jitter = rng.random(count) * 0.9
    jitter[:1] = 0.0
    seconds = FIRST_AFTER_S + step_s * (np.arange(count) + jitter)
    return [on_grid(epoch_ns + round(s * SECOND_NS)) for s in seconds]


def wanted_misses(rng: np.random.Generator, count: int) -> F8:
    """True misses (m) by the shares of MISS_MIX, in random order."""
    edges = np.rint(np.cumsum([0.0] + [share for share, _, _ in MISS_MIX]) * count).astype(int)
    misses = np.concatenate(
        [
            rng.uniform(low, high, edges[k + 1] - edges[k])
            for k, (_, low, high) in enumerate(MISS_MIX)
        ]
    )
    rng.shuffle(misses)
    return misses


def choose_primary(
    rng: np.random.Generator, pool: Pool, sites: Sites, t_ns: int, dut1_s: float
) -> int:
    """An unused object that ground sites see before ``t_ns``; its place in the pool.

    Two radars are enough, for a part of the encounters a telescope as well; among the equally
    well seen the choice is random. Raises SdaError when all are used.
    """
    free = np.nonzero(~pool.used)[0]
    if not len(free):
        raise SdaError(
            "engineer an encounter", "every object has one already", "ask for more objects"
        )
    sample = rng.permutation(free)[:SAMPLE_MAX]
    array = SatrecArray([pool.satrecs[k] for k in sample])
    seen = np.ones((len(sites.kind), len(sample)), dtype=np.bool_)
    for before in SEEN_BEFORE_NS:
        jd, fraction = julian(t_ns - before)
        _, r, _ = array.sgp4(np.array([jd]), np.array([fraction]))
        leo = np.ones(len(sample), dtype=np.bool_)
        now = np.array([t_ns - before])
        seen &= visible(sites, r[:, 0, :] * 1000.0, leo, now, dut1_s)
    radars = np.minimum(2, seen[sites.kind == RADAR].sum(axis=0))
    telescope = seen[sites.kind == OPTICAL].any(axis=0)
    weight = 3 if rng.random() < WITH_TELESCOPE else 1
    score = 2 * radars + weight * telescope
    return int(sample[int(np.argmax(score))])


def _turned(v: F8, axis: F8, angle: float) -> F8:
    """v turned about a unit axis (Rodrigues)."""
    c, s = math.cos(angle), math.sin(angle)
    turned: F8 = v * c + np.cross(axis, v) * s + axis * float(axis @ v) * (1.0 - c)
    return turned


def _partner_velocity(rng: np.random.Generator, r: F8, v: F8) -> F8 | None:
    """The primary's speed in another direction of its local horizontal; None when no fit orbit."""
    angle = math.radians(rng.uniform(*CROSSING_DEG)) * (1.0 if rng.random() < 0.5 else -1.0)
    other = _turned(v, r / np.linalg.norm(r), angle) * (1.0 + rng.uniform(-0.002, 0.002))
    a, ex, ey, inclination, *_ = osculating(r / 1000.0, other / 1000.0)
    fit = a * (1.0 - math.hypot(ex, ey)) >= PERIGEE_RADIUS_KM
    low, high = (math.radians(x) for x in INCLINATION_DEG)
    return other if fit and low <= inclination <= high else None


def engineer_partner(
    rng: np.random.Generator,
    primary: tuple[Satrec, F8],
    partner: tuple[int, F8],
    t_ns: int,
    wanted_m: float,
) -> tuple[tuple[str, str, str], Satrec]:
    """Element lines of a partner that truly passes the primary at ``wanted_m`` near ``t_ns``.

    ``primary`` is (satrec, c (3,) m), ``partner`` (satNo, c). Raises SdaError when no orbit fits.
    """
    satrec, c1 = primary
    satno, c2 = partner
    r1, v1 = state(satrec, t_ns)
    true1, _ = displaced(r1[None], v1[None], c1[None])
    for _ in range(TRIES_MAX):
        v2 = _partner_velocity(rng, r1, v1)
        if v2 is None:
            continue
        closing = (v2 - v1) / np.linalg.norm(v2 - v1)
        draw = rng.standard_normal(3)
        aside = draw - float(draw @ closing) * closing
        true2, _ = displaced(r1[None], v2[None], c2[None])  # Q2 at r1: km off, centimetres wrong
        drift = true2[0] - true1[0]
        drift = drift - float(drift @ closing) * closing
        miss = aside / np.linalg.norm(aside) * wanted_m - drift
        bstar = 10.0 ** rng.uniform(-5.0, -4.0)
        try:
            wanted = mean_elements(satno, f"CROSSER {satno}", t_ns, r1 + miss, v2, bstar=bstar)
        except SdaError:
            continue
        lines = element_lines(wanted)
        return lines, Satrec.twoline2rv(lines[1], lines[2])
    raise SdaError("engineer an encounter", f"no orbit of a partner of {satrec.satnum} fits")


def engineer_all(
    rng: np.random.Generator,
    pool: Pool,
    partners: Sequence[tuple[int, F8]],
    *,
    sites: Sites,
    times: Sequence[int],
    dut1_s: float,
) -> list[Engineered]:
    """One encounter per time, each with a primary of its own and the next partner (satNo, c)."""
    engineered: list[Engineered] = []
    for partner, t_ns, wanted in zip(partners, times, wanted_misses(rng, len(times)), strict=True):
        k = choose_primary(rng, pool, sites, t_ns, dut1_s)
        pool.used[k] = True
        primary = (pool.satrecs[k], pool.offsets[k])
        lines, satrec = engineer_partner(rng, primary, partner, t_ns, float(wanted))
        engineered.append(Engineered(pool.satno[k], partner[0], t_ns, float(wanted), lines, satrec))
    return engineered


class Passage(NamedTuple):
    """The closest approach of two true trajectories."""

    tca_ns: int
    miss_m: float
    speed_m_s: float


def _true_state(satrec: Satrec, c: F8, t_ns: int) -> tuple[F8, F8]:
    r, v = state(satrec, t_ns)
    true_r, true_v = displaced(r[None], v[None], c[None])
    return true_r[0], true_v[0]


def true_passage(
    one: tuple[Satrec, F8], two: tuple[Satrec, F8], near_ns: int, reach_ns: int = 30 * SECOND_NS
) -> Passage:
    """Newton over straight lines from ``near_ns``; each object is (satrec, c (3,) m RTN).

    Moves at most ``reach_ns`` away; scalar SGP4 throughout, so rounded elements give their own
    truth.
    """
    t, miss, speed = near_ns, math.nan, math.nan
    for _ in range(8):
        (r1, v1), (r2, v2) = (_true_state(sat, c, t) for sat, c in (one, two))
        dr, dv = r2 - r1, v2 - v1
        speed = float(np.linalg.norm(dv))
        lead = float(dr @ dv) / (speed * speed)
        miss = float(np.linalg.norm(dr - dv * lead))
        moved = min(max(t - round(lead * SECOND_NS), near_ns - reach_ns), near_ns + reach_ns)
        if moved == t:
            break
        t = moved
    return Passage(t, miss, speed)
