"""Final alerts from a heap of rows by the definitions of SPEC 5: loops over mappings. Not fast.

Knows nothing of batches, order or time: what was applied goes in, what must come out at the end (or
would have to be the current evaluation now) comes out. Rows are the mappings of slow_source.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from sda_pipeline.astro.catalogue import Catalogue
from sda_pipeline.settings import Physics, Prior
from tests.reference.slow_geometry import (
    SECOND,
    Vec,
    add,
    dot,
    norm,
    pane,
    rtn,
    scaled,
    sgp4_state,
    sub,
    tau,
    times,
)
from tests.reference.slow_pc import collision_probability, flags, plane
from tests.reference.slow_schedule import Encounter
from tests.reference.slow_source import Row

WINDOW, LOOKAHEAD = 6, 6  # panes
T_STAR_MAX_S = 30.0
RANK = {None: 0, "WATCH": 1, "YELLOW": 2, "RED": 3}

Store = dict[tuple[int, int], dict[tuple[int, int], Row]]  # (sat, pane) -> id -> row


class Sorted(NamedTuple):
    """What became of the rows."""

    stored: Store
    unpaired: int
    duplicate: int
    applied: int


class Fused(NamedTuple):
    """One object at the catalogue's TCA: its deviation from SGP4 and the covariance of that."""

    dr: Vec
    dv: Vec
    cov: np.ndarray  # (6, 6)


class Moved(NamedTuple):
    """One object at the alert's TCA."""

    r: Vec
    v: Vec
    cov: np.ndarray  # (6, 6)


class Evaluation(NamedTuple):
    """An encounter as seen by its latest pane."""

    pane: int
    level: str | None
    pc: float  # NaN without a level because of distance or time
    miss_m: float
    record: dict[str, Any]
    ingest_ns: int


def pairs_up(row: Row, encounters: Iterable[Encounter]) -> bool:
    """Whether some encounter of the object has its TCA in the panes j .. j + 11."""
    j = pane(row["t"])
    for e in encounters:
        if row["sat"] in (e.low, e.high) and j <= pane(e.tca_ns) < j + WINDOW + LOOKAHEAD:
            return True
    return False


def bytes_of(row: Row) -> bytes:
    """What decides between rows of one (object, pane, id): the smallest stays."""
    numbers = (*row["info"], *row["vec"])
    return struct.pack("<qBH27d", row["t"], row["kind"], row["sensor"], *numbers)


def sort_out(rows: Iterable[Row], encounters: Sequence[Encounter]) -> Sorted:
    """Unpaired rows aside, then one row for each (object, pane, id)."""
    stored: Store = {}
    unpaired = duplicate = applied = 0
    for row in rows:
        if not pairs_up(row, encounters):
            unpaired += 1
            continue
        cell = stored.setdefault((row["sat"], pane(row["t"])), {})
        other = cell.get(row["id"])
        if other is None:
            applied += 1
        else:
            duplicate += 1
        if other is None or bytes_of(row) < bytes_of(other):
            cell[row["id"]] = row
    return Sorted(stored, unpaired, duplicate, applied)


def transport(info: np.ndarray, vec: np.ndarray, from_ns: int, to_ns: int) -> tuple[Any, Any]:
    """Information on the deviation at ``from_ns`` as information on that at ``to_ns``."""
    phi = np.eye(6)  # deviation(from) = phi deviation(to)
    for k in range(3):
        phi[k, 3 + k] = (from_ns - to_ns) / SECOND
    return phi.T @ info @ phi, phi.T @ vec


def matrix(lower: Sequence[float]) -> np.ndarray:
    full, k = np.zeros((6, 6)), 0
    for i in range(6):
        for j in range(i + 1):
            full[i, j] = full[j, i] = lower[k]
            k += 1
    return full


def pane_sum(rows: Iterable[Row], index: int) -> tuple[np.ndarray, np.ndarray]:
    """S(X, j): the left fold at tau(j) over rows sorted by (t, id)."""
    info, vec = np.zeros((6, 6)), np.zeros(6)
    for row in sorted(rows, key=lambda row: (row["t"], row["id"])):
        more = transport(matrix(row["info"]), np.array(row["vec"]), row["t"], tau(index))
        info, vec = info + more[0], vec + more[1]
    return info, vec


def fuse(
    stored: Store, sat: int, last: int, e: Encounter, state: tuple[Vec, Vec], prior: Prior
) -> Fused:
    """The object's state at TCA_cat from the catalogue prior (once) and the window's panes."""
    r, v = state
    axes = np.zeros((6, 6))
    axes[:3, :3] = axes[3:, 3:] = np.array(rtn(r, v)).T
    sigma = np.array([*prior.pos_m, *prior.vel_m_s])
    total, eta = axes @ np.diag(1.0 / (sigma * sigma)) @ axes.T, np.zeros(6)
    for j in range(last - WINDOW + 1, last + 1):
        cell = stored.get((sat, j))
        if cell:
            info, vec = transport(*pane_sum(cell.values(), j), tau(j), e.tca_ns)
            total, eta = total + info, eta + vec
    cov = np.linalg.inv(total)
    delta = np.linalg.solve(total, eta)
    return Fused(_vec(delta[:3]), _vec(delta[3:]), cov)


def _vec(array: np.ndarray) -> Vec:
    x, y, z = array.tolist()
    return (x, y, z)


def latest_pane(stored: Store, e: Encounter) -> int | None:
    """The largest pane in which one of the two has a row, and both have one in its window."""
    for i in range(pane(e.tca_ns), pane(e.tca_ns) - LOOKAHEAD - 1, -1):
        here = [(sat, i) in stored for sat in (e.low, e.high)]
        window = range(i - WINDOW + 1, i + 1)
        seen = [any((sat, j) in stored for j in window) for sat in (e.low, e.high)]
        if any(here) and all(seen):
            return i
    return None


def evaluate(
    stored: Store, e: Encounter, catalogue: Catalogue, physics: Physics
) -> Evaluation | None:
    """The encounter's current evaluation; None when no pane can evaluate it."""
    i = latest_pane(stored, e)
    if i is None:
        return None
    objects = []
    for sat, index, state in sides(e):
        leo = catalogue.mean_motion[index] >= physics.leo_min_rev_per_day
        prior = physics.leo if leo else physics.deep
        objects.append(fuse(stored, sat, i, e, state, prior))
    one, two = objects
    dr = add(sub(e.r2, e.r1), sub(two.dr, one.dr))
    dv = add(sub(e.v2, e.v1), sub(two.dv, one.dv))
    t_star = -dot(dr, dv) / dot(dv, dv)
    at = add(dr, scaled(t_star, dv))
    tca_ns = e.tca_ns + round(t_star * SECOND)
    moved = [
        propagated(fused, t_star, sgp4_state(catalogue, index, tca_ns))
        for fused, (_, index, _) in zip(objects, sides(e), strict=True)
    ]
    joint = moved[0].cov[:3, :3] + moved[1].cov[:3, :3]
    pictured = plane(at, dv, joint, physics.hbr_m)
    pc = collision_probability(pictured, physics.hbr_m)
    level = level_of(pc, norm(at), t_star, physics)
    rows = [window_rows(stored, sat, i) for sat in (e.low, e.high)]
    axes = rtn(moved[0].r, moved[0].v)
    record = {
        "alert_id": e.alert_id, "level": level, "sat1": e.low, "sat2": e.high,
        "tca": format_time(tca_ns),
        "closes": format_time(tau(pane(e.tca_ns))),
        "miss_m": norm(at), "rel_speed_m_s": norm(dv), "rel_pos_rtn_m": list(times(axes, at)),
        "pc": pc, "pc_method": "FOSTER-1992",
        "pc_flags": flags(at, dv, joint, pictured, float(catalogue.period_s[e.low_index])),
        "hbr_m": physics.hbr_m, "mahalanobis": pictured.mahalanobis, "pane": i,
        "n_obs1": len(rows[0]), "n_obs2": len(rows[1]),
        "object1": state_record(moved[0]), "object2": state_record(moved[1]),
    }  # fmt: skip
    newest = max(row["ingest"] for row in rows[0] + rows[1])
    return Evaluation(i, level, pc, norm(at), record, newest)


def level_of(pc: float, miss_m: float, t_star: float, physics: Physics) -> str | None:
    """RED, YELLOW, WATCH or none, thresholds exact."""
    if miss_m > 1000.0 * physics.screening_km or abs(t_star) > T_STAR_MAX_S:
        return None
    if pc >= physics.red_pc:
        return "RED"
    if pc >= physics.yellow_pc:
        return "YELLOW"
    if physics.watch_km is not None and miss_m <= 1000.0 * physics.watch_km:
        return "WATCH"
    return None


def sides(e: Encounter) -> list[tuple[int, int, tuple[Vec, Vec]]]:
    """satNo, index and catalogue state of either object."""
    return [(e.low, e.low_index, (e.r1, e.v1)), (e.high, e.high_index, (e.r2, e.v2))]


def propagated(fused: Fused, seconds: float, there: tuple[Vec, Vec]) -> Moved:
    """The state ``seconds`` on: SGP4 ``there`` plus the deviation carried by Phi; covariance."""
    phi = np.eye(6)
    phi[:3, 3:] = seconds * np.eye(3)
    r = add(there[0], add(fused.dr, scaled(seconds, fused.dv)))
    return Moved(r, add(there[1], fused.dv), phi @ fused.cov @ phi.T)


def window_rows(stored: Store, sat: int, last: int) -> list[Row]:
    rows: list[Row] = []
    for j in range(last - WINDOW + 1, last + 1):
        rows += stored.get((sat, j), {}).values()
    return rows


def state_record(fused: Moved) -> dict[str, Any]:
    """Position, velocity, and the covariance in the object's own RTN, 21 terms."""
    axes = np.zeros((6, 6))
    axes[:3, :3] = axes[3:, 3:] = np.array(rtn(fused.r, fused.v))
    own = axes @ fused.cov @ axes.T
    lower = [float(own[i, j]) for i in range(6) for j in range(i + 1)]
    return {"pos_m": list(fused.r), "vel_m_s": list(fused.v), "cov": lower}


def finals(
    rows: Iterable[Row], encounters: Sequence[Encounter], catalogue: Catalogue, physics: Physics
) -> dict[str, Evaluation]:
    """The final alert of every encounter that has a level in the end, by alert_id."""
    stored = sort_out(rows, encounters).stored
    found = {}
    for e in encounters:
        evaluation = evaluate(stored, e, catalogue, physics)
        if evaluation is not None and evaluation.level is not None:
            found[e.alert_id] = evaluation
    return found


def format_time(t_ns: int) -> str:
    """RFC 3339 with nine digits."""
    seconds, below = divmod(t_ns, SECOND)
    whole = datetime.fromtimestamp(seconds, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{below:09d}Z"


def row_mapping(row: np.void) -> Row:
    """A row of the fast core's array as a mapping of plain numbers."""
    plain = {
        name: row[name].item()
        for name in ("t", "ingest", "sat", "kind", "sensor", "nis", "partition", "offset")
    }
    halves = (int(row["id"][0]), int(row["id"][1]))
    return {**plain, "id": halves, "info": row["info"].tolist(), "vec": row["vec"].tolist()}
