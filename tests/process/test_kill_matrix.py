"""A SIGKILL between every two numbered steps of every operator (DESIGN 5).

The list of gaps is the code's own: a new step without a name fails in
``tests/unit/test_numbered_steps.py``, a name without a kill fails here.
"""

from __future__ import annotations

import pytest

from sda_pipeline.vocabulary import FAILPOINTS
from tests.process import verdict
from tests.process.site import Site
from tests.process.test_crash import KIND_OF, rewinds, was_killed

pytestmark = pytest.mark.process

# Most points pass often; the first pass would be of an almost empty pipeline.
HIT = {"replicator": 1, "dlq-sink": 1, "subscriber": 1, "optical": 1, "isl": 1}
GAPS = [f"{operator}.{point}" for operator, kind in KIND_OF.items() for point in FAILPOINTS[kind]]

ROUNDS = range(max(len(FAILPOINTS[kind]) for kind in KIND_OF.values()))


def gap_of(operator: str, number: int) -> str:
    """The gap of an operator in a round; every gap comes up in some round."""
    points = FAILPOINTS[KIND_OF[operator]]
    return f"{operator}.{points[number % len(points)]}"


def test_every_gap_comes_up() -> None:
    assert {gap_of(operator, number) for operator in KIND_OF for number in ROUNDS} == set(GAPS)


@pytest.mark.parametrize("number", ROUNDS)
def test_every_operator_killed_in_one_of_its_gaps(
    number: int, site: Site, undisturbed: dict[str, str]
) -> None:
    gaps = [gap_of(operator, number) for operator in KIND_OF]
    failpoints = ",".join(f"{gap}={hit_of(gap)}:kill" for gap in gaps)
    print(f"SDA_FAILPOINTS='{failpoints}'")
    site.finish(failpoints=failpoints)
    assert [o for o in KIND_OF if not was_killed(site, o)] == [], site.story()
    assert rewinds(site) == 0, "single deaths need no new rings"
    verdict.check(site, undisturbed)


def hit_of(gap: str) -> int:
    return HIT.get(gap.split(".", maxsplit=1)[0], 2)


@pytest.mark.slow
@pytest.mark.parametrize("gap", GAPS)
def test_one_operator_killed_in_one_gap(gap: str, site: Site, undisturbed: dict[str, str]) -> None:
    site.finish(failpoints=f"{gap}={hit_of(gap)}:kill")
    assert was_killed(site, gap.split(".", maxsplit=1)[0]), site.story()
    assert rewinds(site) == 0, "a single death needs no new rings"
    verdict.check(site, undisturbed)
