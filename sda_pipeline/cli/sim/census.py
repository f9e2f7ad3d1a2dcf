"""Every encounter a catalogue holds in a span, as the pipeline schedules it, with its truth."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from sda_pipeline.astro.catalogue import Catalogue
from sda_pipeline.astro.encounter import Scheduled, schedule_pane
from sda_pipeline.astro.reference import pane_of
from sda_pipeline.cli.sim.engineering import Engineered, Passage, true_passage
from sda_pipeline.cli.sim.expectation import Expected, expect
from sda_pipeline.cli.sim.truth import Encounter, Truth
from sda_pipeline.cli.sim.visibility import Sites
from sda_pipeline.limits import PANES_PER_ENCOUNTER, SECOND_NS
from sda_pipeline.records.times import format_time
from sda_pipeline.settings import Physics

F8 = npt.NDArray[np.float64]

SAME_NS = 30 * SECOND_NS  # an engineered encounter is scheduled within so much of its T


def survey(
    catalogue: Catalogue,
    offsets: F8,
    span_ns: tuple[int, int],
    sites: Sites,
    physics: Physics,
    *,
    engineered: Sequence[Engineered] = (),
    rng: np.random.Generator | None = None,
) -> tuple[Encounter, ...]:
    """All encounters an observation made in the span can matter to, in the schedule's order.

    ``offsets`` c (n,3) m by catalogue index. Engineered ones get an expected level (``rng`` draws
    its observers).
    """
    wanted = {(min(e.primary, e.partner), max(e.primary, e.partner)): e for e in engineered}
    scheduled: list[tuple[Scheduled, Engineered | None]] = []
    for pane in range(pane_of(span_ns[0]), pane_of(span_ns[1]) + PANES_PER_ENCOUNTER + 1):
        for found in schedule_pane(catalogue, pane, physics).encounters:
            made = wanted.get((found.low, found.high))
            near = made is not None and abs(made.t_ns - found.tca_ns) <= SAME_NS
            scheduled.append((found, made if near else None))
    ours = [found for found, made in scheduled if made is not None]
    levels = (
        expect(ours, catalogue, offsets, sites=sites, physics=physics, rng=rng)
        if rng is not None
        else []
    )
    expected = iter(levels)
    return tuple(
        _describe(catalogue, offsets, found, made, next(expected, None) if made else None)
        for found, made in scheduled
    )


def _describe(
    catalogue: Catalogue,
    offsets: F8,
    found: Scheduled,
    made: Engineered | None,
    expected: Expected | None,
) -> Encounter:
    passage = _passage(catalogue, offsets, found.low_index, found.high_index, found.tca_ns)
    return Encounter(
        origin="engineered" if made else "natural", sat1=found.low, sat2=found.high,
        alert_id=found.alert_id, tca_cat_ns=found.tca_ns,
        miss_cat_m=round(float(np.linalg.norm(found.r2 - found.r1)), 3),
        tca_ns=passage.tca_ns, tca=format_time(passage.tca_ns), miss_m=round(passage.miss_m, 3),
        rel_speed_m_s=round(passage.speed_m_s, 3),
        wanted_miss_m=round(made.wanted_m, 3) if made else None,
        expected_level=expected.level if expected else None,
        expected_pc=expected.pc if expected else None,
        observers=expected.observers if expected else (),
    )  # fmt: skip


def _passage(catalogue: Catalogue, offsets: F8, low: int, high: int, near_ns: int) -> Passage:
    one = (catalogue.satrecs[low], offsets[low])
    two = (catalogue.satrecs[high], offsets[high])
    return true_passage(one, two, near_ns)


def without_offsets(truth: Truth, catalogue: Catalogue) -> Truth:
    """The truth of the same catalogue when every object keeps to its elements (c = 0)."""
    if not truth.offsets:
        return truth
    zero = np.zeros((catalogue.n, 3))
    index = catalogue.index(np.array([(e.sat1, e.sat2) for e in truth.encounters]).reshape(-1))
    changed: list[Encounter] = []
    for e, (low, high) in zip(truth.encounters, index.reshape(-1, 2).tolist(), strict=True):
        passage = _passage(catalogue, zero, low, high, e.tca_cat_ns)
        changed.append(
            msgspec.structs.replace(
                e, tca_ns=passage.tca_ns, tca=format_time(passage.tca_ns),
                miss_m=round(passage.miss_m, 3), rel_speed_m_s=round(passage.speed_m_s, 3),
                wanted_miss_m=None, expected_level=None, expected_pc=None, observers=(),
            )
        )  # fmt: skip
    return msgspec.structs.replace(truth, offsets={}, encounters=tuple(changed), on_catalogue=True)
