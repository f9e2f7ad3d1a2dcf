"""The crash tests: a real SIGKILL at named points, and of the whole tree; effects stay exactly
once.

Each asserts what ``verdict.check`` asserts: canonical finals of the undisturbed run, one raise per
alert, no
(alert, sequence) twice, a legal ledger, audit residue 0, no process left.
"""

from __future__ import annotations

import pytest

from sda_pipeline.vocabulary import FAILPOINTS
from tests.process import verdict
from tests.process.site import Site, kill_tree
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process

KIND_OF = {
    "radar": "source", "optical": "source", "isl": "source", "normalize": "stateless",
    "prioritize": "stateless", "correlator": "correlator", "alert-sink": "alert-sink",
    "subscriber": "subscriber", "dlq-sink": "dlq-sink", "replicator": "replicator",
}  # fmt: skip

# (a) mid-process, between consume and sink write; (b) mid-checkpoint; (c) mid-emit
CRASHES = {
    "a-consumed": "radar.after_consume=2:kill",
    "a-logged-not-published": "optical.after_sync=2:kill",
    "a-forwarded-not-released": "normalize.after_publish=3:kill",
    "a-applied-not-committed": "correlator.after_step=3:kill",
    "b-before-the-commit": "correlator.inside_commit=3:kill",
    "b-inside-the-commit's-sync": "correlator.inside_commit=3:kill_in_sync",
    "b-committed-not-released": "correlator.after_commit=3:kill",
    "b-inside-the-snapshot": "replicator.inside_write=1:kill",
    "c-sink-wrote-not-released": "alert-sink.after_commit=2:kill",
    "c-subscriber-wrote-not-released": "subscriber.after_commit=2:kill",
}


def was_killed(site: Site, operator: str) -> bool:
    """Whether the failpoint really fired: the operator had a second life."""
    return any(event.get("incarnation") == 2 for event in site.events(operator))


def rewinds(site: Site) -> int:
    """How often the supervisor made new rings."""
    return sum(event["event"] == "rewind" for event in site.events("supervisor"))


@pytest.mark.parametrize("name", CRASHES)
def test_one_operator_killed(name: str, site: Site, undisturbed: dict[str, str]) -> None:
    failpoint = CRASHES[name]
    site.finish(failpoints=failpoint)
    assert was_killed(site, failpoint.split(".")[0]), site.story()
    assert rewinds(site) == 0, "a single death needs no new rings"
    verdict.check(site, undisturbed)


@pytest.mark.parametrize("position", [1, 4])
def test_whole_tree_killed_at_one_instant(
    position: int, site: Site, undisturbed: dict[str, str]
) -> None:
    # The correlator hangs at its n-th commit, so the instant is in the middle whatever the machine.
    process = site.start("--end-of-input", failpoints=f"correlator.after_commit={position}:hang")
    try:
        wait_until(lambda: site.stands_in("correlator", "COMMIT"), site.story)
    finally:
        kill_tree(process)
    wait_until(lambda: not site.survivors(), site.story)
    site.finish()
    verdict.check(site, undisturbed)


def test_supervisor_killed_alone_takes_the_tree_with_it(
    site: Site, undisturbed: dict[str, str]
) -> None:
    process = site.start("--end-of-input", failpoints="correlator.after_commit=2:hang")
    wait_until(lambda: site.stands_in("correlator", "COMMIT"), site.story)
    process.kill()
    process.wait()
    wait_until(lambda: not site.survivors(), site.story)
    site.finish()
    verdict.check(site, undisturbed)


def test_every_failpoint_of_the_crashes_exists() -> None:
    for failpoint in CRASHES.values():
        operator, point = failpoint.split("=")[0].split(".")
        assert point in FAILPOINTS[KIND_OF[operator]]
