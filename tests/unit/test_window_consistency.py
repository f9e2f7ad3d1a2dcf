"""The fused states of an evaluation are as good as their covariances say, on the real path.

Messages -> rows -> Window (deduplicated, folded by pane) -> evaluate (six panes summed at TCA, the
prior added once). tests/unit/test_fusion.py asks the same of the formulas alone.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from operators.core.evaluation import evaluate
from operators.core.window import Window
from sda_pipeline.astro.catalogue import prior_sigma
from sda_pipeline.limits import WINDOW_PANES
from sda_pipeline.settings import RADAR
from tests.unit.nees_rig import (
    ALL_KINDS,
    COARSE,
    GOOD,
    PHYSICS,
    Noise,
    Trials,
    catalogue,
    collision,
    make_trials,
)

TRIALS = 400


def windows(trials: Trials) -> list[Window]:
    """Each trial's rows in a window of its own, inserted in two parts."""
    order = np.argsort(trials.owner, kind="stable")
    cuts = np.searchsorted(trials.owner[order], np.arange(TRIALS + 1))
    found = []
    for low, high in pairwise(cuts.tolist()):
        rows = trials.rows[order[low:high]]
        window, half = Window(), len(rows) // 2
        for part in (rows[half:], rows[:half]):
            window.insert(catalogue().index(part["sat"]), part)
        found.append(window)
    return found


def nees(
    n_obs: int, noise: Noise, kinds: tuple[int, ...], *, prior_per_pane: bool = False
) -> float:
    """Mean normalised estimation error squared of both objects at TCA.

    ``prior_per_pane``: the prior's information times the panes observed, as adding up the panes'
    posteriors would have it.
    """
    trials = make_trials(n_obs, noise, kinds, trials=TRIALS)
    sigma, period_s = prior_sigma(catalogue(), PHYSICS), catalogue().period_s
    event, values = collision(), []
    for number, window in enumerate(windows(trials)):
        keys = window.keys()
        panes = np.bincount([index for index, _ in keys], minlength=2)
        assert panes.max() <= WINDOW_PANES
        weight = np.sqrt(panes)[:, None] if prior_per_pane else 1.0
        found = evaluate([event], window, sigma / weight, period_s, PHYSICS)[event.alert_id]
        assert found is not None
        for side, truth in zip(
            (found.low, found.high), trials.truth[2 * number : 2 * number + 2], strict=True
        ):
            assert side.n_obs >= n_obs - 1  # a gate of one in a million
            error = side.delta - truth
            values.append(float(error @ np.linalg.solve(side.cov, error)))
    return float(np.mean(values))


@pytest.mark.parametrize("n_obs", [1, 10, 30])
@pytest.mark.parametrize(
    ("noise", "kinds"), [(COARSE, (RADAR,)), (GOOD, ALL_KINDS)], ids=["coarse radar", "all, good"]
)
def test_fused_states_are_as_good_as_they_say(
    n_obs: int, noise: Noise, kinds: tuple[int, ...]
) -> None:
    found = nees(n_obs, noise, kinds)
    print(f"NEES {found:.2f}")
    assert 5.2 <= found <= 6.8


@pytest.mark.parametrize("n_obs", [10, 30])
def test_a_prior_counted_once_a_pane_would_show(n_obs: int) -> None:
    """The control."""
    found = nees(n_obs, COARSE, (RADAR,), prior_per_pane=True)
    print(f"NEES {found:.2f}")
    assert 17.0 <= found <= 21.0  # near 19
