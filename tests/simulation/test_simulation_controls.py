"""The simulation's negative controls: each rule broken on purpose is noticed within 1,000 seeds."""

from __future__ import annotations

import pytest

from tests.simulation.broken_reject_rules import RULES
from tests.simulation.campaign import caught_after
from tests.simulation.seams import simulated

WITHIN = 1_000


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rule_is_noticed(rule: str) -> None:
    with simulated():
        caught = caught_after(rule, WITHIN)
    assert caught is not None, f"{rule} broken, and {WITHIN} schedules are content"
    seeds, faults = caught
    print(f"{rule}: after {seeds} seeds: {faults[0]}")
