"""Rows of the oldest pane an encounter can use are kept, through a crash at every step, to its end.

The encounters are seen early only: in the first pane that counts and in the first that evaluates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from operators.core import correlation
from operators.core.step_effects import Effects
from sda_pipeline.limits import PANE_NS, PANES_PER_ENCOUNTER, SECOND_NS
from sda_pipeline.records.rows import ROW
from sda_pipeline.settings import ISL, Physics
from tests.property.correlator_rig import SOURCES, Store, World, make_frames
from tests.property.scene_rig import IDLE, SPAN_S, T0_NS, scene
from tests.reference.agreement import disagreements
from tests.reference.slow_correlator import finals, row_mapping

PHYSICS = Physics(watch_km=10.0, screening_km=10.0)
OLDEST, FIRST = 11, 6  # panes before the TCA's: the oldest that counts, the first that evaluates
SOURCE = "isl"
BEAT_NS = 2 * SECOND_NS


def world() -> World:
    """Two rows for each object of each encounter, then a beat every two seconds; one partition."""
    rng = np.random.default_rng(5)
    found = []
    for e in scene().encounters[:2]:  # no object in both
        for back in (OLDEST, FIRST):
            for sat in (e.low, e.high):
                row = np.zeros(1, ROW)
                row["t"] = (e.tca_ns // PANE_NS - back) * PANE_NS + int(rng.integers(PANE_NS))
                row["sat"] = sat
                row["info"][0][[0, 2, 5]] = 1.0 / 900.0
                row["vec"][0][:3] = rng.standard_normal(3) / 30.0
                found.append(row)
    beats = np.zeros(80, ROW)
    beats["t"] = T0_NS + int(SPAN_S[0] * SECOND_NS) + BEAT_NS * np.arange(80)
    beats["sat"] = IDLE[0]
    rows = np.concatenate([*found, beats])
    rows["kind"], rows["id"][:, 1] = ISL, np.arange(len(rows))
    rows = rows[np.argsort(rows["t"])]
    none: list[np.ndarray] = [rows[:0]]
    return World(
        {source: [rows] if source == SOURCE else none for source in SOURCES},
        [row_mapping(row) for row in rows],
        0,
    )


def play(at: World) -> dict[str, dict[str, Any]]:
    """A row a step; every step evaluated, committed, and followed by a crash."""
    rng = np.random.default_rng(1)
    logs = {source: make_frames(at, source, 1.0, rng) for source in SOURCES}
    order = [s for s in SOURCES if s != SOURCE] + [SOURCE]  # the others have ended: it alone counts
    store, found = Store(1), {}
    for source in order:
        for frame in logs[source]:
            core, effects = store.open(PHYSICS), Effects()
            core.apply([(source, frame)], effects)
            core.evaluate(1, 0, effects)
            store.commit(core, effects)
            for entry in effects.emitted:
                for record in [] if isinstance(entry, int) else entry:
                    if record["final"] and record["action"] == "insert":
                        found[record["alert_id"]] = record
    return found


def check() -> None:
    at = world()
    slow = finals(at.accepted, scene().encounters, scene().catalogue, PHYSICS)
    assert len(slow) == 2
    found = play(at)
    assert found.keys() == slow.keys()
    for name, record in found.items():
        assert record["n_obs1"] == record["n_obs2"] == 2
        assert disagreements(record, slow[name]) == []


def test_kept_to_the_end() -> None:
    check()


def test_forgetting_a_pane_early_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    monkeypatch.setattr(correlation, "PANES_PER_ENCOUNTER", PANES_PER_ENCOUNTER - 1)
    with pytest.raises(AssertionError):
        check()
