"""Stores that are lost, between two runs and under a living pipeline: recovered, told, exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sda_pipeline.state.alert_log import AlertLog
from sda_pipeline.state.subscriber_store import SubscriberStore
from tests.process.site import Site, kill_tree
from tests.process.state_rig import (
    HANG,
    SOURCES,
    all_running,
    check,
    copy_of,
    damage_newest_snapshot,
    damage_stored_value,
    flip,
    kill_operator,
    refused,
    remove,
    second_snapshot,
    stands_still,
    status,
    told,
)
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process

Damage = Callable[[Site], object]


@pytest.fixture
def site(interrupted: Site, tmp_path: Path) -> Site:
    return copy_of(interrupted, tmp_path / "site")


def correlator_gone(site: Site) -> None:
    remove(site.state / "correlator")


def correlator_and_snapshots_gone(site: Site) -> None:
    remove(site.state / "correlator")
    remove(site.state / "snapshots")


def newest_flipped(site: Site) -> None:
    """The LMDB gone, the newest of two snapshots damaged: the older one serves."""
    second_snapshot(site)
    damage_newest_snapshot(site)
    correlator_gone(site)


RUNGS: dict[str, tuple[Damage, str, list[str]]] = {
    "deleted": (correlator_gone, "snapshot", ["local"]),
    "flipped": (damage_stored_value, "snapshot", ["local"]),
    "newest snapshot flipped": (newest_flipped, "snapshot", ["local", "snapshot"]),
    "nothing left": (correlator_and_snapshots_gone, "fresh", ["local"]),
}


@pytest.mark.parametrize("name", RUNGS)
def test_the_correlators_store_is_lost(name: str, site: Site, undisturbed: dict[str, str]) -> None:
    damage, path, rungs = RUNGS[name]
    damage(site)
    site.finish()
    recovered = told(site, "correlator", "recovered")[-1]
    assert (recovered["path"], recovered["epoch"]) == (path, 2)
    failed = told(site, "correlator", "recovery_rung_failed")
    assert [line["rung"] for line in failed] == rungs
    assert all(line["why"] for line in failed)
    assert (site.state / "correlator.aside-1").exists() == (name == "flipped")
    check(site, undisturbed)


def test_the_whole_state_is_lost_and_the_subscriber_is_elsewhere(
    site: Site, undisturbed: dict[str, str]
) -> None:
    remove(site.state)
    site.finish()
    assert told(site, "correlator", "recovered")[-1]["epoch"] == 2
    check(site, undisturbed)


def test_a_damaged_alert_log_is_refused_and_made_anew_as_advised(
    site: Site, undisturbed: dict[str, str]
) -> None:
    file = site.state / "alerts.sqlite"
    AlertLog(file).close()  # what is only in the WAL comes into the file
    flip(file, 4096)
    code, line = refused(site)
    assert code == 7
    assert "move alerts.sqlite aside and start again: the correlator re-emits" in line
    for path in site.state.glob("alerts.sqlite*"):
        remove(path)
    site.finish()
    check(site, undisturbed)


def test_a_damaged_subscriber_store_is_refused_and_a_copy_serves(
    site: Site, undisturbed: dict[str, str]
) -> None:
    file = site.root / "subscriber" / "subscriber.sqlite"
    SubscriberStore(file).close()
    copy = {path: path.read_bytes() for path in file.parent.iterdir()}
    flip(file, 4096)
    code, line = refused(site)
    assert code == 7
    assert "restore it from a copy" in line
    for path, data in copy.items():
        path.write_bytes(data)
    site.finish()
    check(site, undisturbed)


LIVE: dict[str, tuple[str, str, Damage, set[str]]] = {
    "correlator": ("correlator", "correlator.inside_commit=3:hang",
                   correlator_and_snapshots_gone, {"correlator", "radar", "isl"}),
    "alert-sink": ("alert-sink", "alert-sink.inside_commit=3:hang",
                   lambda site: [remove(path) for path in site.state.glob("alerts.sqlite*")],
                   {"alert-sink", "correlator", "radar"}),
    "subscriber": ("subscriber", "subscriber.inside_commit=3:hang",
                   lambda site: remove(site.root / "subscriber"),
                   {"subscriber", "alert-sink", "correlator", "radar"}),
    "dlq-sink": ("dlq-sink", "dlq-sink.after_sync=2:hang",
                 lambda site: remove(site.state / "dlq"), {"dlq-sink", *SOURCES}),
}  # fmt: skip


@pytest.mark.parametrize("name", LIVE)
def test_a_store_lost_under_a_living_pipeline_rewinds_its_senders(
    name: str, prepared: Site, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    operator, failpoint, damage, restarted = LIVE[name]
    site = prepared.copy_to(tmp_path / "site")
    process = site.start("--end-of-input", failpoints=failpoint)
    try:
        wait_until(lambda: stands_still(site, operator), site.story)
        wait_until(lambda: told(site, "replicator", "snapshot"), site.story)  # is lost with it
        damage(site)
        kill_operator(site, operator)
        wait_until(lambda: process.poll() is not None, site.story)
    finally:
        if process.poll() is None:
            kill_tree(process)
    assert process.returncode == 0, site.story()
    (rewind,) = told(site, "supervisor", "rewind")
    assert rewind["operator"] == operator
    assert restarted <= set(rewind["operators"])
    assert "its store stands at 0x0" in told(site, operator, "failed")[-1]["error"]
    check(site, undisturbed)


def test_a_log_lost_while_its_frames_are_on_their_way_is_made_anew_behind_them(
    prepared: Site, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    site = prepared.copy_to(tmp_path / "site")
    process = site.start("--end-of-input", failpoints=HANG)
    try:
        wait_until(lambda: stands_still(site, "correlator"), site.story)
        wait_until(lambda: site.lives("isl") == 1, site.story)
        remove(site.state / "log" / "radar")
        kill_operator(site, "radar")
        # It begins where the correlator's store stands, while frames of the old log are in rings.
        wait_until(lambda: site.lives("radar") == 2, site.story)
        kill_operator(site, "correlator")
        wait_until(lambda: process.poll() is not None, site.story)
    finally:
        if process.poll() is None:
            kill_tree(process)
    assert process.returncode == 0, site.story()
    assert told(site, "radar", "log_missing")
    assert "radar jumped from" in told(site, "correlator", "failed")[0]["error"]
    check(site, undisturbed)


def test_the_recoveries_of_earlier_supervisors_are_counted_on(site: Site) -> None:
    shown: list[dict[str, int]] = []
    correlator_gone(site)
    for _ in range(3):
        process = site.start()
        try:
            wait_until(lambda: all_running(site), site.story)
            shown.append(status(site)["checkpoint"]["recoveries"])
        finally:
            kill_tree(process)
        wait_until(lambda: not site.survivors(), site.story)
    first = shown[0]
    assert first["snapshot"] == 1
    assert first["fresh"] == 1, "when the state was made"
    assert shown[1:] == [first | {"local": first["local"] + n} for n in (1, 2)]
