"""Ten random kill schedules on the real Kafka: any operator, two at once, the tree, the broker.

A failure prints the schedule; ``SDA_SEED=N`` with the same number of the test replays it.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.kafka.kafka_site import Own, nothing_unread
from tests.process.flow import SEED, Run
from tests.process.site import kill_tree
from tests.process.test_crash import KIND_OF
from tests.process.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.process]
BLOWS = 6
SCHEDULES = [0, *(pytest.param(schedule, marks=pytest.mark.slow) for schedule in range(1, 10))]


def strike(rng: np.random.Generator, run: Run, own: Own) -> None:
    """One blow."""
    how = rng.choice(["one", "two", "tree", "broker"], p=[0.4, 0.2, 0.2, 0.2])
    if how == "tree":
        run.schedule.append(how)
        kill_tree(run.pipeline)
        wait_until(lambda: not run.site.survivors(), run.story)
        run.start()
    elif how == "broker":
        run.schedule.append(how)
        own.kafka.kill()
        own.kafka.start()
    else:
        for operator in rng.choice([*KIND_OF], 1 + (how == "two"), replace=False).tolist():
            run.kill(operator)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_random_blows(schedule: int, own: Own, undisturbed: dict[str, str]) -> None:
    rng = np.random.default_rng([SEED, schedule])
    run = own.run()
    run.play()
    for share in sorted(rng.uniform(0.02, 0.95, BLOWS).tolist()):
        run.wait_for(share)
        strike(rng, run, own)
    run.finish(undisturbed)
    nothing_unread(run.site, own.topics)
