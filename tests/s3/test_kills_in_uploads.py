"""SIGKILL to the replicator between every two steps of an upload; then all of it is remote-durable.

The list of steps is the code's own (tests/unit/test_numbered_steps.py). These snapshots are small
and go in one put; for kills between the parts of large ones see test_kills_in_parts.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sda_pipeline.vocabulary import FAILPOINTS
from tests.process.site import Site, kill_tree
from tests.process.state_rig import all_running, check
from tests.process.waiting import wait_until
from tests.s3.remote_rig import Remote, all_applied, point_to

pytestmark = pytest.mark.process


@pytest.mark.parametrize("point", FAILPOINTS["upload"])
def test_the_replicator_killed_in_one_step_of_an_upload(
    point: str, recorded_with_remote: tuple[Site, Remote], undisturbed: dict[str, str],
    tmp_path: Path,
) -> None:  # fmt: skip
    site, remote = recorded_with_remote
    process = site.start(failpoints=f"replicator.{point}=1:kill")
    try:
        wait_until(lambda: site.lives("replicator") == 2 and all_running(site), site.story)
        wait_until(lambda: all_applied(site), site.story)
        site.run("sda-supervisor", "wait", "--remote-durable", "--state", "state")
        newest = remote.good()[0]
        ends = {source["name"]: source["log_end"] for source in site.status()["sources"]}
        assert newest.positions == ends, "all that was accepted is there"
        for manifest in remote.good():
            target = tmp_path / f"{manifest.sequence}"
            remote.snapshots().fetch(manifest, target, lambda: None)  # checks its SHA-256
        site.run("sda-supervisor", "stop", "--state", "state")
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            kill_tree(process)
    point_to(site, remote, every_s=0.3)
    site.finish()
    check(site, undisturbed)
