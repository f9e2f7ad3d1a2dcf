"""SIGKILL to the whole tree inside a recovery, ten times on each rung, then one undisturbed start.

Where it is killed is drawn from the recovery's own failpoints.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import pytest

from sda_pipeline.vocabulary import FAILPOINTS, RECOVERY_FAILPOINTS
from tests.process.flow import SEED
from tests.process.site import Site, kill_tree
from tests.process.state_rig import check, flip, remove, stands_still, told
from tests.process.waiting import wait_until
from tests.s3.remote_rig import Remote

pytestmark = pytest.mark.process

KILLS = 10
ONCE = "recovery_snapshot_aside"  # then one snapshot is left, and it serves
INSTALL = (
    "recovery_copied", "recovery_moved_aside", "recovery_installed", "recovery_epoch", "recovered"
)  # fmt: skip


def nothing(_: Site) -> None:
    """Damage nothing."""


def store_lost(site: Site) -> None:
    shutil.rmtree(site.state / "correlator", ignore_errors=True)
    newest = max((site.state / "snapshots").glob("*.snap"))
    if len([*(site.state / "snapshots").glob("*.snap")]) > 1:  # what serves is the older one
        flip(newest, 9000)


def disk_lost(site: Site) -> None:
    """Everything but the logs of the processes, which tell what happened."""
    for path in [*site.state.iterdir()]:
        if path.name != "logs":
            remove(path)


RUNGS: dict[str, tuple[Callable[[Site], None], tuple[str, ...]]] = {
    "local": (nothing, ("recovery_epoch", "recovered")),
    "snapshot": (store_lost, (ONCE, *INSTALL)),
    "remote": (disk_lost, ("remote_listed", "remote_fetched", *INSTALL)),
    "fresh": (disk_lost, ("remote_listed", "recovery_moved_aside", "recovery_epoch")),
}


def test_every_point_of_a_recovery_is_killed_at_on_some_rung() -> None:
    wanted = {*FAILPOINTS["remote-rung"], *RECOVERY_FAILPOINTS["correlator"]}
    assert {point for _, points in RUNGS.values() for point in points} == wanted


@pytest.mark.parametrize("rung", RUNGS)
def test_killed_ten_times_on_one_rung(
    rung: str, both: tuple[Site, Remote], undisturbed: dict[str, str]
) -> None:
    site, remote = both
    damage, points = RUNGS[rung]
    if rung == "fresh":
        remote.empty()
    rng = np.random.default_rng(SEED)
    again = [point for point in points if point != ONCE]
    schedule = [*points, *rng.choice(again, KILLS - len(points)).tolist()]
    print(f"SDA_SEED={SEED} schedule: {schedule}")
    for point in schedule:
        damage(site)
        process = site.start(
            "--end-of-input", "--allow-fresh", failpoints=f"correlator.{point}=1:hang"
        )
        try:
            wait_until(lambda: stands_still(site, "correlator"), site.story)
        finally:
            kill_tree(process)
        wait_until(lambda: not site.survivors(), site.story)
    damage(site)
    site.finish("--allow-fresh")
    assert told(site, "correlator", "recovered")[-1]["path"] == rung
    check(site, undisturbed)
