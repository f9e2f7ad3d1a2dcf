"""A synthetic catalogue: background, engineered encounters, and the truth about both.

Writes no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri
from sgp4.api import Satrec

from sda_pipeline.astro.catalogue import parse_catalogue
from sda_pipeline.cli.sim.background import background_elements
from sda_pipeline.cli.sim.census import survey
from sda_pipeline.cli.sim.engineering import Pool, encounter_times, engineer_all
from sda_pipeline.cli.sim.mean_elements import Elements, element_lines
from sda_pipeline.cli.sim.truth import Truth, digest, offset_table
from sda_pipeline.cli.sim.visibility import Sites
from sda_pipeline.errors import UsageError
from sda_pipeline.records.times import format_time
from sda_pipeline.sensors import SensorRegistry
from sda_pipeline.settings import Physics

F8 = npt.NDArray[np.float64]

FIRST_SATNO = 70_001  # five digits, far from what was in orbit when this was written
OBJECTS_MAX = 26_000
# A partner and an unused LEO primary each, and some choice of primaries over the sites.
OBJECTS_PER_ENCOUNTER = 2.5
OFFSET_SIGMAS_MAX = 2.0
_BACKGROUND, _OFFSETS, _ENCOUNTERS, _OBSERVERS = range(4)  # one random stream per purpose


class Synthetic(NamedTuple):
    """Three-line elements as text (UTF-8 is ASCII) and what is true about them."""

    elements: str
    truth: Truth


def synthesize(
    seed: int,
    epoch_ns: int,
    objects: int,
    *,
    sensors: SensorRegistry,
    minutes: float = 15.0,
    per_minute: float = 30.0,
    physics: Physics | None = None,
    on_catalogue: bool = False,
) -> Synthetic:
    """A catalogue of ``objects`` with ``minutes`` x ``per_minute`` encounters from ``epoch_ns`` on.

    The primaries are taken where ``sensors`` see them. With ``on_catalogue`` every c is 0: the
    truth is the catalogue trajectory. Deterministic from its arguments. Raises UsageError when
    the objects do not suffice.
    """
    physics = physics or Physics()
    encounters = round(minutes * per_minute)
    _check(objects, encounters)
    streams = [np.random.default_rng([seed, purpose]) for purpose in range(4)]
    satnos = list(range(FIRST_SATNO, FIRST_SATNO + objects))
    is_partner = np.zeros(objects, dtype=np.bool_)
    is_partner[streams[_BACKGROUND].permutation(objects)[:encounters]] = True
    others = [s for s, partner in zip(satnos, is_partner, strict=True) if not partner]
    background = background_elements(streams[_BACKGROUND], epoch_ns, others)
    lines = {e.satno: element_lines(e) for e in background}
    offsets = draw_offsets(streams[_OFFSETS], objects, physics.leo.pos_m)
    deep = _deep(background, physics)
    offsets[[s - FIRST_SATNO for s in deep]] *= np.array(physics.deep.pos_m) / physics.leo.pos_m
    offsets = np.round(offsets, 3) * (0.0 if on_catalogue else 1.0) + 0.0
    usable = [e for e in background if e.satno not in deep]
    pool = Pool(
        [e.satno for e in usable],
        [Satrec.twoline2rv(*lines[e.satno][1:]) for e in usable],
        offsets[[e.satno - FIRST_SATNO for e in usable]],
        np.zeros(len(usable), dtype=np.bool_),
    )
    partners = [(s, offsets[s - FIRST_SATNO]) for s in np.array(satnos)[is_partner].tolist()]
    times = encounter_times(streams[_ENCOUNTERS], epoch_ns, minutes, per_minute)
    sites = Sites.of(sensors)
    engineered = engineer_all(
        streams[_ENCOUNTERS], pool, partners, sites=sites, times=times, dut1_s=physics.dut1_s
    )
    lines |= {e.partner: e.lines for e in engineered}
    text = "".join(f"{line}\n" for satno in satnos for line in lines[satno])
    known = {s: tuple(c) for s, c in zip(satnos, offsets.tolist(), strict=True) if any(c)}
    truth = Truth(
        epoch=format_time(epoch_ns), epoch_ns=epoch_ns, ends_ns=max(times, default=epoch_ns),
        seed=seed, objects=objects, on_catalogue=on_catalogue,
        catalogue_sha256=digest(text.encode()), offsets=known, encounters=(),
    )  # fmt: skip
    catalogue = parse_catalogue(text, "tle")
    found = survey(
        catalogue, offset_table(catalogue.satno, truth), (truth.epoch_ns, truth.ends_ns),
        sites, physics, engineered=engineered, rng=streams[_OBSERVERS],
    )  # fmt: skip
    return Synthetic(text, msgspec.structs.replace(truth, encounters=found))


def _check(objects: int, encounters: int) -> None:
    needed = round(OBJECTS_PER_ENCOUNTER * encounters)
    if objects < needed:
        raise UsageError(
            "make a catalogue", f"{encounters} encounters need at least {needed} objects",
            "ask for more --objects, or fewer --minutes or --per-minute",
        )  # fmt: skip
    if not 1 <= objects <= OBJECTS_MAX:
        raise UsageError(
            "make a catalogue", f"{objects} objects are not between 1 and {OBJECTS_MAX}",
            "give --objects in that range",
        )  # fmt: skip


def draw_offsets(rng: np.random.Generator, count: int, sigma_m: tuple[float, float, float]) -> F8:
    """c of ``count`` objects (count,3) m in RTN: normal, each axis within two sigma (SPEC 12)."""
    low, high = ndtr(-OFFSET_SIGMAS_MAX), ndtr(OFFSET_SIGMAS_MAX)
    drawn: F8 = ndtri(low + (high - low) * rng.random((count, 3))) * np.array(sigma_m)
    return drawn


def _deep(background: Sequence[Elements], physics: Physics) -> set[int]:
    """Objects of the DEEP class: their prior differs and no encounter is engineered with them."""
    per_day = 1440.0 / (2.0 * np.pi)
    return {e.satno for e in background if e.no_kozai * per_day < physics.leo_min_rev_per_day}
