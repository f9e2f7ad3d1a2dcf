"""Evaluate encounters: fuse both objects at the catalogue TCA, closest approach, Pc (SPEC 5). Pure.

Not when an encounter is evaluated, nor what is emitted about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.core.schedule import pane_of, tau
from operators.core.window import Window
from sda_pipeline.astro.encounter import (
    Scheduled,
    closest_approach,
    joint_position_covariance,
)
from sda_pipeline.astro.fusion import fuse, prior_information, transport_info, unpack21
from sda_pipeline.astro.probability import foster
from sda_pipeline.limits import LOOKAHEAD_PANES, SECOND_NS, WINDOW_PANES
from sda_pipeline.settings import Physics
from sda_pipeline.vocabulary import Level

T_STAR_MAX_S = 30.0

Vectors = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Side:
    """One object at TCA_cat: catalogue state, fused deviation (6,) and covariance (6, 6), rows
    used.
    """

    index: int
    r: Vectors
    v: Vectors
    delta: Vectors
    cov: Vectors
    n_obs: int
    ingest: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the latest usable pane says about an encounter. Units m, s, m/s."""

    encounter: Scheduled
    pane: int
    low: Side
    high: Side
    t_star: float
    miss_m: float
    speed_m_s: float
    dr: Vectors  # object 2 minus object 1 at t*, TEME
    pc: float
    mahalanobis: float
    flags: tuple[str, ...]
    level: Level | None


def level_of(pc: float, miss_m: float, t_star: float, physics: Physics) -> Level | None:
    """The level an evaluation has by the exact thresholds."""
    if miss_m > physics.screening_km * 1000.0 or abs(t_star) > T_STAR_MAX_S:
        return None
    if pc >= physics.red_pc:
        return Level.RED
    if pc >= physics.yellow_pc:
        return Level.YELLOW
    if physics.watch_km is not None and miss_m <= physics.watch_km * 1000.0:
        return Level.WATCH
    return None


def current_pane(encounter: Scheduled, window: Window) -> int | None:
    """The latest pane at which the encounter is evaluated, or None when neither was seen enough."""
    last = pane_of(encounter.tca_ns)
    first = last - LOOKAHEAD_PANES
    panes = range(first - WINDOW_PANES + 1, last + 1)
    low = [window.has(encounter.low_index, pane) for pane in panes]
    high = [window.has(encounter.high_index, pane) for pane in panes]
    for pane in range(last, first - 1, -1):
        end = pane - panes.start + 1
        here = low[end - 1] or high[end - 1]
        if here and any(low[end - WINDOW_PANES : end]) and any(high[end - WINDOW_PANES : end]):
            return pane
    return None


class _Sums(NamedTuple):
    info: Vectors  # (m, 21)
    vec: Vectors  # (m, 6)
    n_obs: list[int]
    ingest: list[int]


def _window_sums(
    indices: Sequence[int], panes: Sequence[int], tca_ns: Sequence[int], window: Window
) -> _Sums:
    """Per (object, pane i): the folds of panes i-5..i, ascending, transported to TCA_cat and
    added.
    """
    size = len(indices)
    info, vec = np.zeros((size, 21)), np.zeros((size, 6))
    n_obs, ingest = [0] * size, [0] * size
    for back in range(WINDOW_PANES - 1, -1, -1):
        used, columns, dt = [], [], []
        for at, (index, pane, tca) in enumerate(zip(indices, panes, tca_ns, strict=True)):
            fold = window.folded((index, pane - back))
            if fold is None:
                continue
            used.append(at)
            columns.append(fold.columns)
            dt.append((tau(pane - back) - tca) / float(SECOND_NS))
            n_obs[at] += fold.count
            ingest[at] = max(ingest[at], fold.ingest)
        if used:
            block = np.stack(columns)
            moved, pulled = transport_info(block[:, :21], block[:, 21:], np.array(dt))
            info[used] += moved
            vec[used] += pulled
    return _Sums(info, vec, n_obs, ingest)


def _sides(
    encounters: Sequence[Scheduled], panes: Sequence[int], window: Window, sigma: Vectors
) -> tuple[list[Side], list[Side]]:
    """Fuse both objects of every encounter in one batch of 2 m rows: first all low, then all
    high.
    """
    indices = [e.low_index for e in encounters] + [e.high_index for e in encounters]
    r = np.array([e.r1 for e in encounters] + [e.r2 for e in encounters])
    v = np.array([e.v1 for e in encounters] + [e.v2 for e in encounters])
    tca = [e.tca_ns for e in encounters] * 2
    sums = _window_sums(indices, [*panes] * 2, tca, window)
    prior = prior_information(r, v, sigma[indices])
    delta, cov = fuse(prior, unpack21(sums.info), sums.vec)
    sides = [
        Side(indices[i], r[i], v[i], delta[i], cov[i], sums.n_obs[i], sums.ingest[i])
        for i in range(len(indices))
    ]
    return sides[: len(encounters)], sides[len(encounters) :]


def evaluate(
    encounters: Sequence[Scheduled],
    window: Window,
    sigma: Vectors,
    period_s: Vectors,
    physics: Physics,
) -> dict[str, Evaluation | None]:
    """Evaluate encounters at their current pane. ``sigma`` (n, 6) prior RTN, ``period_s`` (n,) by
    object.

    Returns by alert id; None where no pane qualifies.
    """
    results: dict[str, Evaluation | None] = {e.alert_id: None for e in encounters}
    usable = [(e, pane) for e in encounters if (pane := current_pane(e, window)) is not None]
    if not usable:
        return results
    chosen, panes = [e for e, _ in usable], [pane for _, pane in usable]
    window.fold(
        (index, pane - back)
        for e, pane in usable
        for index in (e.low_index, e.high_index)
        for back in range(WINDOW_PANES)
    )
    low, high = _sides(chosen, panes, window, sigma)
    dr_cat, dv_cat = _catalogue_difference(chosen)
    delta = np.array([b.delta - a.delta for a, b in zip(low, high, strict=True)])
    approach = closest_approach(dr_cat + delta[:, :3], dv_cat + delta[:, 3:])
    cov = joint_position_covariance(
        np.array([s.cov for s in low]), np.array([s.cov for s in high]), approach.t_star
    )
    periods = period_s[[s.index for s in low]]
    pc = foster(approach.dr, approach.dv, cov, physics.hbr_m, periods)
    for at, (encounter, pane) in enumerate(usable):
        t_star, miss = float(approach.t_star[at]), float(approach.miss[at])
        results[encounter.alert_id] = Evaluation(
            encounter, pane, low[at], high[at], t_star, miss, float(approach.speed[at]),
            approach.dr[at], float(pc.pc[at]), float(pc.mahalanobis[at]), pc.flags[at],
            level_of(float(pc.pc[at]), miss, t_star, physics),
        )  # fmt: skip
    return results


def _catalogue_difference(encounters: Sequence[Scheduled]) -> tuple[Vectors, Vectors]:
    dr = np.array([e.r2 - e.r1 for e in encounters])
    dv = np.array([e.v2 - e.v1 for e in encounters])
    return dr, dv
