"""What level an encounter should get: the pipeline's own maths on six ideal observations.

The rule, so that a reader of the truth file can judge it: each object is observed six times,
noise-free, once per pane of the last window (27.5, 22.5 ... 2.5 s before TCA), by sensors that
see it, drawn by kind as the traffic draws them; the fused states at TCA_cat, their closest
approach and Foster Pc give the level. Real traffic is noisy and denser, so encounters near a
threshold may end on its other side. Not the true miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sda_pipeline.astro.catalogue import Catalogue, prior_sigma
from sda_pipeline.astro.encounter import Scheduled, closest_approach, joint_position_covariance
from sda_pipeline.astro.fusion import fuse, prior_information, transport_info, unpack21
from sda_pipeline.astro.measurement import Reduced, reduce_isl, reduce_optical, reduce_radar
from sda_pipeline.astro.probability import foster
from sda_pipeline.astro.reference import j2000_to_teme_for, pane_of
from sda_pipeline.cli.sim.observing import Shots, predict, sigmas
from sda_pipeline.cli.sim.truth import NO_LEVEL, displaced
from sda_pipeline.cli.sim.visibility import Sites, choose_sensors, visible
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.settings import ISL, OPTICAL, RADAR, Physics
from sda_pipeline.vocabulary import Level

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]

BEFORE_S = (27.5, 22.5, 17.5, 12.5, 7.5, 2.5)
T_STAR_MAX_S = 30.0


class Expected(NamedTuple):
    """Level, Pc and the six observers of each object, as "SENSOR" names; first object 1, then 2."""

    level: str
    pc: float
    observers: tuple[str, ...]


def _level(pc: float, miss_m: float, t_star: float, physics: Physics) -> str:
    """Thresholds of SPEC 5."""
    if miss_m > physics.screening_km * 1000.0 or abs(t_star) > T_STAR_MAX_S:
        return NO_LEVEL
    if pc >= physics.red_pc:
        return Level.RED.value
    if pc >= physics.yellow_pc:
        return Level.YELLOW.value
    watched = physics.watch_km is not None and miss_m <= physics.watch_km * 1000.0
    return Level.WATCH.value if watched else NO_LEVEL


def _reduce(
    kind: int, shots: Shots, true: tuple[F8, F8], cat: tuple[F8, F8], context: _Context
) -> Reduced:
    """Information of exact measurements of ``true`` states on the deviation from ``cat``."""
    sites, dut1_s = context.sites, context.physics.dut1_s
    column = sites.registry.column
    exact = predict(kind, shots, true, sites, dut1_s)
    sigma = sigmas(kind, shots.sensor, sites)
    clock = column("time_sigma_s")[shots.sensor]
    prior = context.prior[shots.index]
    if kind == ISL:
        spread = sigma * 1000.0
        cov = np.zeros((len(sigma), 6, 6))
        cov[:, range(6), range(6)] = spread * spread
        return reduce_isl(*cat, exact * 1000.0, cov, clock, prior)
    site = sites.at(shots.sensor, shots.t_ns, dut1_s)
    floor = column("angle_floor_deg")[shots.sensor]
    if kind == OPTICAL:
        ra, dec = np.maximum(sigma, floor[:, None]).T
        teme = j2000_to_teme_for(pane_of(shots.t_ns))
        return reduce_optical(*cat, site, exact[:, 0], exact[:, 1], ra, dec, clock, teme, prior)
    return reduce_radar(
        *cat, site, exact[:, 0], exact[:, 1], exact[:, 2] * 1000.0, exact[:, 3] * 1000.0,
        sigma[:, 0], np.maximum(sigma[:, 1], floor),
        np.maximum(sigma[:, 2] * 1000.0, column("range_floor_m")[shots.sensor]),
        np.maximum(sigma[:, 3] * 1000.0, column("rate_floor_m_s")[shots.sensor]),
        clock, prior, np.radians(floor),
    )  # fmt: skip


class _Context(NamedTuple):
    catalogue: Catalogue
    sites: Sites
    physics: Physics
    prior: F8  # (n,6) by object
    offsets: F8  # (n,3) by object


def _states(catalogue: Catalogue, index: I8, t_ns: I8) -> tuple[F8, F8]:
    """SGP4 states by scalar calls: the times are scattered over minutes."""
    states = [catalogue.state_at(int(k), int(t)) for k, t in zip(index, t_ns, strict=True)]
    return np.array([r for r, _ in states]), np.array([v for _, v in states])


def _information(
    index: I8, tca_ns: I8, context: _Context, rng: np.random.Generator
) -> tuple[F8, F8, I8]:
    """Six observations per (object, TCA), at TCA: info (m,21), vec (m,6), sensors (m,6)."""
    shots_of = np.repeat(np.arange(len(index)), len(BEFORE_S))
    before = np.rint(np.array(BEFORE_S) * SECOND_NS).astype(np.int64)
    t_ns = (tca_ns[:, None] - before).ravel()
    cat = _states(context.catalogue, index[shots_of], t_ns)
    true = displaced(*cat, context.offsets[index[shots_of]])
    leo = context.catalogue.leo[index[shots_of]]
    seen = visible(context.sites, true[0], leo, t_ns, context.physics.dut1_s)
    sensor = choose_sensors(seen, context.sites, rng.random(len(t_ns)))
    info, vec = np.zeros((len(index), 21)), np.zeros((len(index), 6))
    for kind in (RADAR, OPTICAL, ISL):
        rows = np.nonzero((sensor >= 0) & (context.sites.kind[sensor] == kind))[0]
        if not len(rows):
            continue
        shots = Shots(index[shots_of[rows]], sensor[rows], t_ns[rows])
        reduced = _reduce(
            kind, shots, (true[0][rows], true[1][rows]), (cat[0][rows], cat[1][rows]), context
        )
        dt = (t_ns[rows] - tca_ns[shots_of[rows]]) / float(SECOND_NS)
        moved, pulled = transport_info(reduced.info, reduced.vec, dt)
        np.add.at(info, shots_of[rows], moved)
        np.add.at(vec, shots_of[rows], pulled)
    return info, vec, sensor.reshape(len(index), len(BEFORE_S))


def expect(
    encounters: Sequence[Scheduled],
    catalogue: Catalogue,
    offsets: F8,
    *,
    sites: Sites,
    physics: Physics,
    rng: np.random.Generator,
) -> list[Expected]:
    """The expected level of each scheduled encounter; ``offsets`` c (n,3) m by catalogue index."""
    if not encounters:
        return []
    context = _Context(catalogue, sites, physics, prior_sigma(catalogue, physics), offsets)
    index = np.array([e.low_index for e in encounters] + [e.high_index for e in encounters])
    tca = np.array([e.tca_ns for e in encounters] * 2, dtype=np.int64)
    r = np.array([e.r1 for e in encounters] + [e.r2 for e in encounters])
    v = np.array([e.v1 for e in encounters] + [e.v2 for e in encounters])
    info, vec, sensor = _information(index, tca, context, rng)
    delta, cov = fuse(prior_information(r, v, context.prior[index]), unpack21(info), vec)
    n = len(encounters)
    state = np.concatenate([r, v], axis=1) + delta
    relative = state[n:] - state[:n]
    approach = closest_approach(relative[:, :3], relative[:, 3:])
    joint = joint_position_covariance(cov[:n], cov[n:], approach.t_star)
    pc = foster(approach.dr, approach.dv, joint, physics.hbr_m, catalogue.period_s[index[:n]]).pc
    seen: npt.NDArray[np.bool_] = np.any(sensor >= 0, axis=1)
    ids = [*sites.registry.ids, ""]  # -1: nobody
    found: list[Expected] = []
    for k in range(n):
        level = NO_LEVEL
        if seen[k] and seen[n + k]:
            miss, t_star = float(approach.miss[k]), float(approach.t_star[k])
            level = _level(float(pc[k]), miss, t_star, physics)
        observers = tuple(ids[s] for s in (*sensor[k], *sensor[n + k]))
        found.append(Expected(level, float(pc[k]), observers))
    return found
