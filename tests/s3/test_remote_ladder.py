"""Recovery from the real S3 server: what is lost or damaged, which rung serves, and that nothing
else differs from the undisturbed run.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from tests.process.site import FINISH_WITHIN_S, Site, kill_tree
from tests.process.state_rig import (
    SOURCES,
    all_running,
    audit_of,
    check,
    ended,
    flip,
    kill_operator,
    refused,
    remove,
    told,
)
from tests.process.waiting import wait_until
from tests.s3.remote_rig import Rejects, Remote, all_applied, point_to, purge, rejects_in_dlq

pytestmark = pytest.mark.process

Damage = Callable[[Site, Remote], object]


def lmdb_gone(site: Site, _: Remote) -> None:
    remove(site.state / "correlator")


def lmdb_damaged(site: Site, _: Remote) -> None:
    file = site.state / "correlator" / "data.mdb"
    data = bytearray(file.read_bytes())
    for page in range(2 * 4096, len(data), 4096):
        data[page] ^= 0x40
    file.write_bytes(data)


def snapshots_damaged(site: Site, _: Remote) -> None:
    for path in (site.state / "snapshots").glob("*.snap"):
        flip(path, 9000)


def snapshots_gone(site: Site, _: Remote) -> None:
    remove(site.state / "snapshots")


def disk_lost(site: Site, _: Remote) -> None:
    remove(site.state)


def newest_damaged(_: Site, remote: Remote) -> None:
    remote.flip(0)


def newest_without_manifest(_: Site, remote: Remote) -> None:
    remote.delete(remote.key(0, "json"))


def newest_without_data(_: Site, remote: Remote) -> None:
    remote.delete(remote.key(0, "snap"))


def newest_manifest_damaged(_: Site, remote: Remote) -> None:
    remote.write(remote.key(0, "json"), b"{")


def half_uploaded(_: Site, remote: Remote) -> None:
    """A multipart upload in progress, and one whose manifest was never written."""
    newest, snapshots = remote.good()[0], remote.snapshots()
    first, second = (
        snapshots.data_key(msgspec.structs.replace(newest, sequence=newest.sequence + more))
        for more in (1, 2)
    )
    remote.client().create_multipart_upload(Bucket=remote.server.bucket, Key=second)
    remote.write(first, b"half")


# name: damages, the rung that serves, which remote snapshot, the rungs that failed before it
LADDER: dict[str, tuple[list[Damage], str, int, list[str]]] = {
    "LMDB gone": ([lmdb_gone], "snapshot", 0, ["local"]),
    "LMDB damaged": ([lmdb_damaged], "snapshot", 0, ["local"]),
    "local snapshots damaged too": ([lmdb_damaged, snapshots_damaged], "remote", 0,
                                    ["local", "snapshot", "snapshot"]),
    "local snapshots gone too": ([lmdb_gone, snapshots_gone], "remote", 0, ["local"]),
    "disk lost": ([disk_lost], "remote", 0, []),
    "newest remote damaged": ([disk_lost, newest_damaged], "remote", 1, ["remote"]),
    "its manifest missing": ([disk_lost, newest_without_manifest], "remote", 1, ["remote"]),
    "its data missing": ([disk_lost, newest_without_data], "remote", 1, ["remote"]),
    "its manifest damaged": ([disk_lost, newest_manifest_damaged], "remote", 1, ["remote"]),
    "half-uploaded": ([disk_lost, half_uploaded], "remote", 0, ["remote"]),
}  # fmt: skip


@pytest.mark.parametrize("name", LADDER)
def test_the_highest_good_rung_serves_and_nothing_else_differs(
    name: str, both: tuple[Site, Remote], undisturbed: dict[str, str], rejects: Rejects
) -> None:
    damages, path, number, failed = LADDER[name]
    site, remote = both
    wanted = remote.good()[number].sequence
    for damage in damages:
        damage(site, remote)
    site.finish()
    recovered = told(site, "correlator", "recovered")[-1]
    assert (recovered["path"], recovered["epoch"]) == (path, 2), site.story()
    assert path != "remote" or recovered["snapshot"] == wanted
    assert rejects_in_dlq(site.state) == rejects, "those that went with the disk are found again"
    assert audit_of(site).notes == []
    sought = [source for source in SOURCES if told(site, source, "rejects_sought")]
    assert bool(sought) == (disk_lost in damages)
    assert not any(told(site, source, "rejects_in_doubt") for source in SOURCES)
    faults = told(site, "correlator", "recovery_rung_failed")
    assert [fault["rung"] for fault in faults] == failed
    assert all(fault["why"] for fault in faults)
    check(site, undisturbed)


@pytest.mark.parametrize("purged", [False, True], ids=["it-has-all", "it-has-purged-radar"])
def test_a_lost_disk_with_nothing_new_at_the_broker_comes_to_rest(
    purged: bool,
    recorded_with_remote: tuple[Site, Remote],
    undisturbed: dict[str, str],
    rejects: Rejects,
) -> None:
    site, _ = recorded_with_remote
    process = site.start()
    try:
        wait_until(lambda: all_applied(site), site.story)
        site.run("sda-supervisor", "wait", "--remote-durable", "--state", "state")
    finally:
        kill_tree(process)
    wait_until(lambda: not site.survivors(), site.story)
    remove(site.state)
    if purged:
        purge(site, "radar")
    process = site.start("--until-idle")
    try:
        assert process.wait(FINISH_WITHIN_S) == 0, site.story()
    finally:
        if process.poll() is None:
            kill_tree(process)
    assert told(site, "correlator", "recovered")[-1]["path"] == "remote"
    report = audit_of(site)
    assert report.faults == []
    doubtful = [source for source in SOURCES if told(site, source, "rejects_in_doubt")]
    assert doubtful == (["radar"] if purged else [])
    found = rejects_in_dlq(site.state)
    lacking = rejects - found
    assert found + lacking == rejects, "each at most once, with its own bytes"
    assert {source for source, _, _, _ in lacking} == {*doubtful}
    assert len(report.notes) == len(doubtful)
    site.finish()
    check(site, undisturbed)
    assert rejects_in_dlq(site.state) == found
    total = sum(source == "radar" for source, _, _, _ in rejects)
    notes = audit_of(site).notes
    assert len(notes) == len(doubtful)
    for note in notes:
        assert note.startswith("radar: at least "), note
        assert note.endswith(f": of {total} at least {lacking.total()} are only counted"), note


def test_a_first_start_with_an_empty_bucket_needs_no_flag(
    both: tuple[Site, Remote], undisturbed: dict[str, str]
) -> None:
    site, remote = both
    remove(site.state)
    remove(site.root / "subscriber")
    remote.empty()
    site.finish()
    assert told(site, "correlator", "recovered")[-1]["path"] == "fresh"
    assert told(site, "correlator", "recovery_rung_failed") == []
    check(site, undisturbed)


def empty_bucket(_: Site, remote: Remote) -> None:
    remote.empty()


def all_damaged(_: Site, remote: Remote) -> None:
    for number in range(len(remote.good())):
        remote.flip(number)


HOPELESS: dict[str, tuple[list[Damage], str]] = {
    "the bucket is empty and the logs are not": (
        [lmdb_gone, snapshots_gone, empty_bucket],
        "the remote holds no snapshot, and the subscriber has taken alerts",
    ),
    "the bucket is empty and the subscriber is not": (
        [disk_lost, empty_bucket],
        "the remote holds no snapshot, and the subscriber has taken alerts",
    ),
    "all of them are damaged": (
        [disk_lost, all_damaged], "none of the remote snapshots serves",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOPELESS)
def test_nothing_serves_and_a_new_state_must_be_allowed(
    name: str, both: tuple[Site, Remote], undisturbed: dict[str, str]
) -> None:
    damages, why = HOPELESS[name]
    site, remote = both
    for damage in damages:
        damage(site, remote)
    code, line = refused(site)
    assert code == 7, line
    assert why in line
    assert "--allow-fresh" in line
    site.finish("--allow-fresh")
    recovered = told(site, "correlator", "recovered")[-1]
    assert (recovered["path"], recovered["epoch"]) == ("fresh", 2)
    check(site, undisturbed)


def test_a_new_state_is_allowed_once_not_for_the_whole_run(both: tuple[Site, Remote]) -> None:
    site, remote = both
    remove(site.state)
    remote.empty()
    point_to(site, remote, every_s=3600)
    process = site.start("--allow-fresh")
    try:
        wait_until(lambda: all_running(site), site.story)
        assert told(site, "correlator", "recovered")[-1]["path"] == "fresh"
        remove(site.state / "correlator")
        kill_operator(site, "correlator")
        code, line = ended(site, process)
    finally:
        if process.poll() is None:
            kill_tree(process)
    assert code == 7, line
    assert "the remote holds no snapshot" in line
    assert "used up" in line
    assert len(told(site, "correlator", "recovered")) == 1


AWAY: dict[str, list[Damage]] = {
    "with everything on this disk lost": [disk_lost],
    "with the store lost": [lmdb_gone, snapshots_gone],
}
KEEPS_LOGS = {"with the store lost"}


@pytest.mark.parametrize("name", AWAY)
def test_a_remote_that_is_away_is_waited_for_and_then_named(
    name: str, both: tuple[Site, Remote], undisturbed: dict[str, str]
) -> None:
    site, remote = both
    for damage in AWAY[name]:
        damage(site, remote)
    before = len(told(site, "correlator", "recovered"))
    remote.server.stop()
    try:
        code, line = refused(site)
        assert code == 8, line
        assert "the remote does not" in line
        assert "--allow-fresh" in line
        waits = told(site, "correlator", "recovery_waits_for_remote")
        assert waits, "it tries more than once"
        assert len(told(site, "correlator", "recovered")) == before * (name in KEEPS_LOGS)
    finally:
        remote.server.start()
    site.finish()
    assert told(site, "correlator", "recovered")[-1]["path"] == "remote"
    check(site, undisturbed)
