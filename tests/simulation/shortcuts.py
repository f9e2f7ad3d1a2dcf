"""Pure functions of the correlator's core, computed once per input: all schedules ask the same.

Nothing is left out: the first call with an input is the real one; its key is all it depends on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from operators.core import alerts, evaluation
from operators.core.evaluation import Evaluation, Side
from operators.core.schedule import pane_of
from operators.core.window import Window
from sda_pipeline.astro.catalogue import Catalogue
from sda_pipeline.astro.encounter import PaneSchedule, Scheduled, schedule_pane
from sda_pipeline.limits import PANES_PER_ENCOUNTER
from sda_pipeline.records.rows import ROW, Rows
from sda_pipeline.settings import Physics
from sda_pipeline.topology import Inputs
from tests.simulation.sim_catalogue import PHYSICS, sky

CATALOGUE_HASH = 0x5DA0_51A0
_HISTORY = slice(ROW.fields["ingest"][1], ROW.fields["offset"][1] + 8)  # what evaluation ignores

_panes: dict[int, PaneSchedule] = {}
_evaluations: dict[Any, Evaluation | None] = {}
_objects: dict[Any, dict[str, Any]] = {}
_real_object = alerts._object


@cache
def inputs() -> Inputs:
    """What ``load_inputs`` gives: the stories' catalogue. Nobody looks at sensors here."""
    return Inputs(sky().catalogue, None, CATALOGUE_HASH)  # type: ignore[arg-type]


def pane_schedule(catalogue: Catalogue, pane: int, physics: Physics, cache: Any) -> PaneSchedule:
    """``schedule_pane`` of the one catalogue."""
    if pane not in _panes:
        _panes[pane] = schedule_pane(catalogue, pane, physics, cache)
    return _panes[pane]


def evaluate(
    encounters: Sequence[Scheduled],
    window: Window,
    sigma: np.ndarray,
    period_s: np.ndarray,
    physics: Physics,
) -> dict[str, Evaluation | None]:
    """``evaluation.evaluate``, one encounter at a time: a batch equals its parts, to the bit."""
    assert physics == PHYSICS
    results: dict[str, Evaluation | None] = {}
    for encounter in encounters:
        key, ingest = _key(encounter, window)
        if key not in _evaluations:
            found = evaluation.evaluate([encounter], window, sigma, period_s, physics)
            _evaluations[key] = found[encounter.alert_id]
        known = _evaluations[key]
        if known is not None:
            low, high = _newest(known, known.low, ingest), _newest(known, known.high, ingest)
            known = replace(known, low=low, high=high)
        results[encounter.alert_id] = known
    return results


def _key(encounter: Scheduled, window: Window) -> tuple[Any, dict[tuple[int, int], int]]:
    """The bytes of every row the encounter could use, but their history; newest ingest by cell."""
    last = pane_of(encounter.tca_ns)
    parts: list[Any] = [encounter.alert_id]
    ingest = {}
    for index in (encounter.low_index, encounter.high_index):
        for pane in range(last - PANES_PER_ENCOUNTER + 1, last + 1):
            rows = window._rows.get((index, pane))
            if rows is not None:
                parts += (index, pane, _content(rows))
                ingest[index, pane] = int(rows["ingest"].max())
    return tuple(parts), ingest


def _content(rows: Rows) -> bytes:
    raw = rows.view(np.uint8).reshape(len(rows), ROW.itemsize)
    return raw[:, : _HISTORY.start].tobytes() + raw[:, _HISTORY.stop :].tobytes()


def _newest(known: Evaluation, side: Side, ingest: dict[tuple[int, int], int]) -> Side:
    """The side with the newest ingest of the window it was fused from."""
    first = known.pane - evaluation.WINDOW_PANES + 1
    newest = max(
        (at for (index, pane), at in ingest.items()
         if index == side.index and first <= pane <= known.pane),
        default=0,
    )  # fmt: skip
    return replace(side, ingest=newest)


def object_state(side: Side, tca_cat: int, t_star: float, catalogue: Catalogue) -> dict[str, Any]:
    """``alerts._object``."""
    key = (side.index, tca_cat, t_star, side.delta.tobytes(), side.cov.tobytes())
    if key not in _objects:
        _objects[key] = _real_object(side, tca_cat, t_star, catalogue)
    return _objects[key]
