"""The encounter schedule by tree and filter equals the all-pairs reference, to the nanosecond."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sda_pipeline.astro import encounter
from sda_pipeline.astro.encounter import NodeCache, schedule_pane
from sda_pipeline.limits import PANE_NS, SECOND_NS
from sda_pipeline.settings import Physics
from tests.property.scene_rig import SPAN_S, T0_NS, Scene, scene


def check(at: Scene, order: np.ndarray) -> None:
    """Panes asked for in any order give the reference's encounters and count."""
    first, last = ((T0_NS + int(s * SECOND_NS)) // PANE_NS for s in (SPAN_S[0], SPAN_S[1] + 60.0))
    nodes = NodeCache(at.catalogue)
    panes = np.arange(first, last + 1)
    found, co_orbital = [], 0
    for pane in panes[np.argsort(order[: len(panes)])].tolist():
        part = schedule_pane(at.catalogue, pane, Physics(), nodes)
        assert all(pane == e.tca_ns // PANE_NS for e in part.encounters)
        found += part.encounters
        co_orbital += part.co_orbital
    assert co_orbital == at.co_orbital
    found.sort(key=lambda e: (e.tca_ns, e.low, e.high))
    assert len(found) == len(at.encounters)
    for fast, slow in zip(found, at.encounters, strict=True):
        for name in ("alert_id", "low", "high", "low_index", "high_index", "tca_ns"):
            assert getattr(fast, name) == getattr(slow, name)
        for name in ("r1", "v1", "r2", "v2"):
            assert tuple(getattr(fast, name).tolist()) == getattr(slow, name)


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1))
def test_tree_and_filter_lose_and_invent_nothing(seed: int) -> None:
    check(scene(seed), np.random.default_rng(seed).random(64))


@pytest.mark.parametrize(
    ("name", "value"), [("STRAIGHT_M", -9_000.0), ("ID_SLOT_NS", 30 * SECOND_NS)]
)
def test_a_narrow_filter_and_another_id_are_seen(
    name: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control."""
    monkeypatch.setattr(encounter, name, value)
    with pytest.raises(AssertionError):
        check(scene(), np.arange(64))
