"""A dozen objects with engineered encounters, and random rows about them. No test."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from sgp4.api import Satrec

from sda_pipeline.astro.catalogue import Catalogue, parse_catalogue
from sda_pipeline.cli.sim.mean_elements import (
    Elements,
    element_lines,
    mean_elements,
    on_grid,
    state,
)
from sda_pipeline.limits import PANE_NS, SECOND_NS
from sda_pipeline.records.rows import ROW
from sda_pipeline.settings import ISL, OPTICAL, RADAR, Physics
from tests.reference.slow_schedule import Encounter, schedule

F8 = np.ndarray

T0_NS = on_grid(1_775_001_600_000_000_000)  # 2026-04-01
SPAN_S = (-35.0, 82.0)  # of the rows' event times, around all encounters
BEATS_AFTER_S = 50.0  # so that all watermarks pass the last encounter in small steps
# (satNo of the other, seconds after T0, angle between the velocities deg, catalogue miss m):
# 105 meets two others within a minute; 107 is slow (extended); 109 is co-orbital; 111 passes
# outside the screening distance but inside the margin.
PARTNERS = {
    102: (101, 22.0, 70.0, 120.0),
    105: (104, 34.999, 25.0, 40.0),
    103: (105, 52.0, 110.0, 250.0),
    107: (106, 41.0, 0.8, 60.0),
    109: (108, 60.0, 0.08, 500.0),
    111: (110, 75.0, 95.0, 5_600.0),
}
IDLE = (201, 202)


class Scene(NamedTuple):
    """The catalogue, its schedule by the slow reference, and each object's true deviation at T0."""

    catalogue: Catalogue
    encounters: list[Encounter]
    co_orbital: int
    busy: list[int]  # indices of objects with encounters


@cache
def scene(seed: int = 11) -> Scene:
    """Always the same for a seed."""
    rng = np.random.default_rng(seed)
    lines: dict[int, tuple[str, str, str]] = {}
    for satno in (101, 104, 106, 108, 110, *IDLE):
        lines[satno] = element_lines(_background(rng, satno))
    for satno, (other, after_s, angle, miss) in PARTNERS.items():
        lines[satno] = _partner(rng, lines[other], satno, after_s, (angle, miss))
    text = "".join(f"{line}\n" for satno in sorted(lines) for line in lines[satno])
    catalogue = parse_catalogue(text, "tle")
    first, last = ((T0_NS + int(s * SECOND_NS)) // PANE_NS for s in (SPAN_S[0], SPAN_S[1] + 60.0))
    encounters, slow = schedule(catalogue, range(first, last + 1), Physics())
    busy = sorted({k for e in encounters for k in (e.low_index, e.high_index)})
    return Scene(catalogue, encounters, len(slow), busy)


def _background(rng: np.random.Generator, satno: int) -> Elements:
    motion = rng.uniform(14.2, 15.0) * 2.0 * np.pi / 1440.0
    angles = rng.uniform(0.0, 2.0 * np.pi, 3)
    return Elements(
        satno, f"MADE UP {satno}", T0_NS, motion, rng.uniform(5e-4, 5e-3), rng.uniform(0.7, 1.7),
        *angles,
    )  # fmt: skip


def _partner(
    rng: np.random.Generator,
    other: tuple[str, str, str],
    satno: int,
    after_s: float,
    how: tuple[float, float],
) -> tuple[str, str, str]:
    """An orbit that passes the other at T0 + after_s, at an angle (deg) and a miss (m)."""
    t = on_grid(T0_NS + round(after_s * SECOND_NS))
    r, v = state(Satrec.twoline2rv(*other[1:]), t)
    angle, miss = np.radians(how[0]), how[1]
    up = r / np.linalg.norm(r)
    turned = (
        v * np.cos(angle) + np.cross(up, v) * np.sin(angle) + up * (up @ v) * (1 - np.cos(angle))
    )
    closing = (turned - v) / np.linalg.norm(turned - v)
    aside = np.cross(closing, rng.standard_normal(3))
    place = r + miss * aside / np.linalg.norm(aside)
    return element_lines(mean_elements(satno, f"CROSSER {satno}", t, place, turned))


def beats(rng: np.random.Generator, count: int, kind: int, first_id: int) -> np.ndarray:
    """Rows of objects without encounters, all through the span and after: they drive event time."""
    rows = np.zeros(count, ROW)
    seconds = rng.uniform(SPAN_S[0], SPAN_S[1] + BEATS_AFTER_S, count)
    rows["t"] = T0_NS + (seconds * SECOND_NS).astype(np.int64)
    rows["sat"], rows["kind"] = rng.choice(IDLE, count), kind
    rows["id"][:, 1] = np.arange(first_id, first_id + count)
    return rows


class Noise(NamedTuple):
    """One-sigma of the made-up measurements of a kind; ``rank`` scalars per observation."""

    rank: int
    sigma_m: float


KINDS = {RADAR: Noise(3, 60.0), OPTICAL: Noise(2, 90.0), ISL: Noise(6, 40.0)}


def early_panes(rng: np.random.Generator) -> dict[int, tuple[int, int]]:
    """Some encounters whose objects are seen early only: first and last pane by object index.

    They are evaluated by the first pane that can be, with the oldest rows that can be used.
    """
    early: dict[int, tuple[int, int]] = {}
    for e in scene().encounters:
        if rng.random() < 0.3:
            last = e.tca_ns // PANE_NS
            early[e.low_index] = early[e.high_index] = (last - 11, last - 6)
    return early


def random_rows(
    rng: np.random.Generator,
    count: int,
    kind: int,
    *,
    deviation: F8,
    early: dict[int, tuple[int, int]],
    first_id: int,
) -> np.ndarray:
    """Rows (count,) of one kind: objects mostly with encounters, times anywhere in the span.

    ``deviation`` (n, 6) is the truth they measure, in m and m/s, TEME. Some times fall exactly on
    a pane's edge or its last nanosecond; ids are unique from ``first_id`` on.
    """
    at = scene()
    rows = np.zeros(count, ROW)
    busy = rng.choice(at.busy, count)
    any_ = rng.integers(0, at.catalogue.n, count)
    index = np.where(rng.random(count) < 0.9, busy, any_)
    t = T0_NS + (rng.uniform(*SPAN_S, count) * SECOND_NS).astype(np.int64)
    for k, one in enumerate(index.tolist()):
        if one in early:
            first, last = early[one]
            middle = int(rng.integers(first, last + 1))
            pane = int(rng.choice([first, last, middle]))
            t[k] = pane * PANE_NS + int(rng.integers(0, PANE_NS))
    edge = t // PANE_NS * PANE_NS
    draw = rng.random(count)
    rows["t"] = np.where(draw < 0.04, edge, np.where(draw < 0.08, edge + PANE_NS - 1, t))
    rows["sat"], rows["kind"] = at.catalogue.satno[index], kind
    rows["sensor"] = rng.integers(0, 4, count)
    rows["ingest"] = rng.integers(0, 10**9, count)
    # Ids in no order of time, unique in the run.
    number = np.arange(first_id, first_id + count, dtype=np.uint64)
    rows["id"][:, 0] = number * np.uint64(0x9E3779B97F4A7C15)
    rows["id"][:, 1] = number
    for k in range(count):
        elapsed = (int(rows["t"][k]) - T0_NS) / SECOND_NS
        true = deviation[index[k]].copy()
        true[:3] += elapsed * true[3:]
        rows["info"][k], rows["vec"][k] = _measured(rng, KINDS[kind], true)
    return rows


def _measured(rng: np.random.Generator, noise: Noise, true: F8) -> tuple[F8, F8]:
    """L and b of a linear measurement along random directions."""
    h = np.zeros((noise.rank, 6))
    if noise.rank == 6:
        h[:] = np.diag([1.0, 1.0, 1.0, 100.0, 100.0, 100.0])
    else:
        h[:, :3] = np.linalg.qr(rng.standard_normal((3, 3)))[0][: noise.rank]
        if noise.rank == 3 and rng.random() < 0.5:
            h[2, 3:] = 50.0 * h[2, :3]
    sigma = noise.sigma_m * rng.uniform(0.3, 2.0)
    z = h @ true + sigma * rng.standard_normal(noise.rank)
    full = h.T @ h / (sigma * sigma)
    return full[np.tril_indices(6)], h.T @ z / (sigma * sigma)


def true_deviations(rng: np.random.Generator) -> F8:
    """(n, 6) m, m/s: of the size of the prior, so that some pairs hit and some miss."""
    at = scene()
    sigma = np.array([90.0, 90.0, 90.0, 0.3, 0.3, 0.3])
    return rng.standard_normal((at.catalogue.n, 6)) * sigma
