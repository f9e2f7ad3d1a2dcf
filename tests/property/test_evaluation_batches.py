"""An encounter's evaluation does not depend, to the bit, on what is evaluated beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operators.core import window
from operators.core.evaluation import Evaluation, evaluate
from operators.core.window import Window
from sda_pipeline.astro.catalogue import prior_sigma
from sda_pipeline.astro.encounter import Scheduled
from sda_pipeline.settings import Physics
from tests.property.scene_rig import KINDS, random_rows, scene, true_deviations

PHYSICS = Physics(watch_km=5.0)


def many(rng: np.random.Generator, count: int) -> list[Scheduled]:
    """Variants of the scene's encounters: other misses, same objects and panes."""
    encounters = scene().encounters
    found = []
    for k in range(count):
        e = encounters[int(rng.integers(len(encounters)))]
        states = [np.array(x) for x in (e.r1, e.v1, e.r2, e.v2)]
        states[2] = states[2] + rng.standard_normal(3) * 300.0
        tca = e.tca_ns + int(rng.integers(-(10**9), 10**9))
        found.append(Scheduled(e.low, e.high, tca, f"{k:032x}", *states, e.low_index, e.high_index))
    return found


def filled(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows about the scene and their objects."""
    deviation = true_deviations(rng)
    rows = np.concatenate(
        [
            random_rows(rng, 60, kind, deviation=deviation, early={}, first_id=1 + 60 * n)
            for n, kind in enumerate(KINDS)
        ]
    )
    return scene().catalogue.index(rows["sat"]), rows


def told(encounters: list[Scheduled], content: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    """What each evaluation says, as plain numbers, from a window of its own."""
    at = Window()
    at.insert(*content)
    sigma, period = prior_sigma(scene().catalogue, PHYSICS), scene().catalogue.period_s
    return {
        name: None if one is None else _plain(one)
        for name, one in evaluate(encounters, at, sigma, period, PHYSICS).items()
    }


def _plain(one: Evaluation) -> tuple[Any, ...]:
    sides = [(s.delta.tolist(), s.cov.tolist(), s.n_obs, s.ingest) for s in (one.low, one.high)]
    numbers = (one.pane, one.t_star, one.miss_m, one.speed_m_s, one.dr.tolist(), one.pc)
    return (*sides, *numbers, one.mahalanobis, one.flags, one.level)


def check(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    encounters, content = many(rng, count), filled(rng)
    together = told(encounters, content)
    assert sum(one is not None for one in together.values()) >= count // 4
    half = rng.permutation(count)[: count // 2].tolist()
    assert told([encounters[k] for k in half], content).items() <= together.items()
    for k in half[:6]:
        name = encounters[k].alert_id
        assert told([encounters[k]], content) == {name: together[name]}


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 70))
def test_a_batch_equals_its_encounters_alone(seed: int, count: int) -> None:
    check(seed, count)


def test_a_pairwise_sum_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a fold whose order depends on its length."""

    def pairwise(segment: np.ndarray, count: int, columns: np.ndarray) -> np.ndarray:
        at = [np.flatnonzero(segment == k) for k in range(count)]
        turned = [a if len(segment) % 2 else a[::-1] for a in at]
        return np.array([columns[a].sum(axis=0) for a in turned])

    monkeypatch.setattr(window, "segment_fold", pairwise)
    with pytest.raises(AssertionError):
        check(0, 40)
