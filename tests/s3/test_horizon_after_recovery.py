"""What is durable at the remote after the disk was lost: nothing of what the new log holds, until a
snapshot of the new epoch is there.
"""

from __future__ import annotations

import pytest

from tests.process.site import Site, kill_tree
from tests.process.state_rig import remove, status, told
from tests.process.waiting import wait_until
from tests.s3.remote_rig import Remote, all_applied, point_to

pytestmark = pytest.mark.process
WAIT = ("sda-supervisor", "wait", "--remote-durable", "--state", "state")


def ends(site: Site) -> dict[str, int]:
    return {source["name"]: source["log_end"] for source in status(site)["sources"]}


def test_the_newest_snapshot_that_did_not_serve_covers_nothing(both: tuple[Site, Remote]) -> None:
    site, remote = both
    damaged = remote.good()[0]
    remove(site.state)
    remote.flip(0)
    point_to(site, remote, every_s=3600)  # none of the new epoch yet
    process = site.start()
    try:
        wait_until(lambda: all_applied(site), site.story)
        assert told(site, "correlator", "recovered")[-1]["snapshot"] < damaged.sequence
        remotes = {source["name"]: source["remote"] for source in status(site)["sources"]}
        assert {name: each["position"] for name, each in remotes.items()} == dict.fromkeys(
            remotes, 0
        )
        assert {name: each["behind"] for name, each in remotes.items()} == ends(site)
        late = site.run(*WAIT, "--timeout", "1s", check=False)
        assert late.returncode == 1, late.stdout
        site.run("sda-supervisor", "stop", "--state", "state")
        assert process.wait(60) == 0
        point_to(site, remote, every_s=0.3)
        process = site.start()
        wait_until(lambda: all_applied(site), site.story)
        told_ends = site.run(*WAIT).stdout.removeprefix("remote-durable: ").split(", ")
        newest = remote.good()[0]
        assert newest.epoch == 2
        for source, end in (each.split() for each in told_ends):
            assert newest.positions[source] >= int(end) > 0
    finally:
        if process.poll() is None:
            kill_tree(process)


def test_a_restored_state_is_durable_again_without_new_input(
    recorded_with_remote: tuple[Site, Remote],
) -> None:
    site, remote = recorded_with_remote
    process = site.start()
    try:
        wait_until(lambda: all_applied(site), site.story)
        site.run(*WAIT)
        before = ends(site)
        kill_tree(process)
        wait_until(lambda: not site.survivors(), site.story)
        remove(site.state)
        process = site.start()
        wait_until(lambda: all_applied(site), site.story)
        assert ends(site) == before, "nothing is new"
        site.run(*WAIT)
        assert (remote.good()[0].epoch, remote.good()[0].positions) == (2, before)
    finally:
        if process.poll() is None:
            kill_tree(process)
