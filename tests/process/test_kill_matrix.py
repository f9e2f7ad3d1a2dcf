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


@pytest.mark.parametrize("gap", GAPS)
def test_killed_in_the_gap(gap: str, site: Site, undisturbed: dict[str, str]) -> None:
    operator = gap.split(".", maxsplit=1)[0]
    site.finish(failpoints=f"{gap}={HIT.get(operator, 2)}:kill")
    assert was_killed(site, operator), site.story()
    assert rewinds(site) == 0, "a single death needs no new rings"
    verdict.check(site, undisturbed)
