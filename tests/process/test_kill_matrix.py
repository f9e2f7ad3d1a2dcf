"""A SIGKILL between every two numbered steps of every operator (DESIGN 5).

The list of gaps comes from the code: a new step without a name, or a name without a kill, fails.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from sda_pipeline.vocabulary import FAILPOINTS
from tests.process import verdict
from tests.process.site import ROOT, Site
from tests.process.test_crash import KIND_OF, rewinds, was_killed

pytestmark = pytest.mark.process

MODULES = {
    "source": ["source.py"],
    "stateless": ["forward.py"],
    "correlator": ["correlator.py"],
    "alert-sink": ["alert_sink.py"],
    "subscriber": ["subscriber.py"],
    "dlq-sink": ["dlq_sink.py"],
    "replicator": ["../sda_pipeline/state/snapshot.py"],
}
# Most points pass often; the first pass would be of an almost empty pipeline.
HIT = {"replicator": 1, "dlq-sink": 1, "subscriber": 1, "optical": 1, "isl": 1}
GAPS = [f"{operator}.{point}" for operator, kind in KIND_OF.items() for point in FAILPOINTS[kind]]


def points_in(path: Path) -> set[str]:
    """Names passed to ``fail`` or ``hit`` as literals in a file."""
    return {
        node.args[0].value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).split(".")[-1] in {"fail", "hit"}
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }


@pytest.mark.parametrize("kind", MODULES)
def test_the_table_of_failpoints_is_the_codes_own(kind: str) -> None:
    found = set().union(*(points_in(ROOT / "operators" / name) for name in MODULES[kind]))
    assert found == set(FAILPOINTS[kind])


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
    print(f"replay: SDA_FAILPOINTS='{failpoints}'")
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
