"""Kills from outside at random moments while traffic flows; effects stay exactly once.

Failures print the seed and the schedule; ``SDA_SEED=N`` replays it. A moment is a share of the
traffic, not a time, so a slow machine runs the same schedule.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import numpy as np
import pytest

from tests.process.flow import SEED, Run
from tests.process.site import kill_tree
from tests.process.test_crash import KIND_OF, rewinds
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process

KILLS = 10


def shares(operator: str) -> list[float]:
    rng = np.random.default_rng([SEED, *operator.encode()])
    return sorted(rng.uniform(0.02, 0.95, KILLS).tolist())


@pytest.mark.parametrize("operator", KIND_OF)
def test_one_operator_at_ten_moments(operator: str, run: Run, undisturbed: dict[str, str]) -> None:
    run.play()
    for share in shares(operator):
        run.wait_for(share)
        run.kill(operator)
    run.finish(undisturbed)
    assert rewinds(run.site) == 0, run.story()


def test_two_operators_at_once(run: Run, undisturbed: dict[str, str]) -> None:
    rng = np.random.default_rng(SEED)
    run.play()
    for share in sorted(rng.uniform(0.02, 0.9, KILLS).tolist()):
        run.wait_for(share)
        run.kill(*rng.choice([*KIND_OF], 2, replace=False).tolist())
    run.finish(undisturbed)


def kill_supervisor_alone(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@pytest.mark.parametrize("how", [kill_tree, kill_supervisor_alone])
def test_the_tree_at_three_moments(
    how: Callable[[subprocess.Popen[bytes]], None], run: Run, undisturbed: dict[str, str]
) -> None:
    rng = np.random.default_rng([SEED, len(how.__name__)])
    run.play()
    for share in sorted(rng.uniform(0.02, 0.9, 3).tolist()):
        run.wait_for(share)
        run.note(how.__name__)
        how(run.pipeline)
        wait_until(lambda: not run.site.survivors(), run.story)
        run.start()
    run.finish(undisturbed)
