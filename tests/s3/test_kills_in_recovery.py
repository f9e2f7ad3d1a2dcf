"""SIGKILL to the whole tree inside a recovery, again and again, then one undisturbed start.

The damage is done once. So every start meets what the kill before it left behind: ten of them while
the rung is being climbed, then one at each step that follows once the store is in its place. Where
it is killed is drawn from the recovery's own failpoints.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from sda_pipeline.state.recovery import CORRELATOR, SNAPSHOTS
from sda_pipeline.state.recovery_counts import read_recoveries
from sda_pipeline.vocabulary import FAILPOINTS, RECOVERY_FAILPOINTS
from tests.process.flow import SEED
from tests.process.site import Site, kill_tree
from tests.process.state_rig import check, flip, hangs, remove, told
from tests.process.waiting import wait_until
from tests.s3.remote_rig import Remote

pytestmark = pytest.mark.process

KILLS = 10
ONCE = "recovery_snapshot_aside"  # then one snapshot is left, and it serves


class Climb(NamedTuple):
    """One rung: what is done to the site, and where it is killed.

    ``climbing``: what passes them leaves the rung to be climbed again. ``after``: the store is in
    its place, and what comes next finds it there.
    """

    damage: Callable[[Site, Remote], None]
    climbing: tuple[str, ...]
    after: tuple[str, ...]
    flags: tuple[str, ...] = ()


def nothing(_: Site, __: Remote) -> None:
    """Damage nothing."""


def store_lost(site: Site, _: Remote) -> None:
    """The LMDB gone and the newest of two snapshots damaged."""
    shutil.rmtree(site.state / CORRELATOR)
    older, newest = sorted((site.state / SNAPSHOTS).glob("*.snap"))[-2:]
    assert older != newest
    flip(newest, 9000)


def disk_lost(site: Site, _: Remote) -> None:
    """Everything but the logs of the processes, which tell what happened."""
    for path in [*site.state.iterdir()]:
        if path.name != "logs":
            remove(path)


def all_lost(site: Site, remote: Remote) -> None:
    disk_lost(site, remote)
    remote.empty()


COPY = ("recovery_copied", "recovery_moved_aside")
BEGUN = ("recovery_epoch", "recovered")
RUNGS: dict[str, Climb] = {
    "local": Climb(nothing, BEGUN, ()),
    "snapshot": Climb(store_lost, (ONCE, *COPY), ("recovery_installed", *BEGUN)),
    "remote": Climb(
        disk_lost, ("remote_listed", "remote_fetched", *COPY), ("recovery_installed", *BEGUN)
    ),
    "fresh": Climb(
        all_lost, ("remote_listed", "recovery_moved_aside"), BEGUN, ("--allow-fresh",)
    ),
}  # fmt: skip


def test_every_point_of_a_recovery_is_killed_at_on_some_rung() -> None:
    wanted = {*FAILPOINTS["remote-rung"], *RECOVERY_FAILPOINTS["correlator"]}
    assert {point for rung in RUNGS.values() for point in (*rung.climbing, *rung.after)} == wanted


@pytest.mark.parametrize("rung", RUNGS)
def test_killed_ten_times_on_one_rung(
    rung: str, both: tuple[Site, Remote], undisturbed: dict[str, str]
) -> None:
    site, remote = both
    climb = RUNGS[rung]
    rng = np.random.default_rng(SEED)
    again = [point for point in climb.climbing if point != ONCE]
    drawn = rng.choice(again, KILLS - len(climb.climbing)).tolist()
    schedule = [*climb.climbing, *drawn, *climb.after]
    print(f"SDA_SEED={SEED} schedule: {schedule}")
    lives, before = (len(told(site, "correlator", e)) for e in ("recovered", "epoch_raised"))
    climb.damage(site, remote)
    counted = read_recoveries(site.state)
    for point in schedule:
        kill_at(site, point, *climb.flags)
    site.finish(*climb.flags)
    check(site, undisturbed)
    assert not (site.state / "correlator.restoring").exists()
    assert not [*site.state.glob("correlator.aside-*")], "nothing was there to be set aside"
    recovered = told(site, "correlator", "recovered")[lives:]
    assert recovered[-1]["path"] == "local", "what was in place stayed there"
    counts = read_recoveries(site.state)
    if rung != "local":
        assert counts[rung] == counted.get(rung, 0) + 1, "and it is counted once"
        (raised,) = {line["epoch"] for line in recovered}
        assert raised == 2, "one epoch for one loss, however often it was killed"
    whys = [line["why"] for line in told(site, "correlator", "epoch_raised")[before:]]
    restored = [why for why in whys if why.startswith("restored from snapshot")]
    assert whys == restored
    assert len(whys) == (rung in ("snapshot", "remote"))


def kill_at(site: Site, point: str, *flags: str) -> None:
    """Start, and SIGKILL to all as soon as the correlator stands at this point."""
    process = site.start("--end-of-input", *flags, failpoints=f"correlator.{point}=1:hang")
    try:
        wait_until(lambda: hangs(site, "correlator"), site.story)
    finally:
        kill_tree(process)
    wait_until(lambda: not site.survivors(), site.story)
