"""A slow, dead, cutting, overloaded or full store: the pipeline goes on, and says what is wrong.

The faults are the network's (a proxy before the real server) and the disk's below it; a double
stands in only for an answer that the real server cannot be made to give, 503.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.process.site import Site, kill_tree
from tests.process.state_rig import all_running, check, hangs, kill_operator, status, told
from tests.process.waiting import wait_until
from tests.s3.remote_rig import Remote, all_applied, new_remote, point_to
from tests.servers.demand import demanded_disk
from tests.servers.fault_proxy import FaultProxies, FaultProxy
from tests.servers.overloaded_store import overloaded_store
from tests.servers.s3_server import S3Server
from tests.servers.small_disk import SmallDisk

pytestmark = pytest.mark.process

BROKEN: dict[str, tuple[Callable[[FaultProxy], None], set[str]]] = {
    "refused": (lambda proxy: proxy.down(), {"UNREACHABLE"}),
    "reset": (lambda proxy: proxy.reset(), {"UNREACHABLE"}),
    "cut": (lambda proxy: proxy.cut_after(20_000, "upstream"), {"UNREACHABLE"}),
}


@pytest.fixture
def proxy(proxies: FaultProxies, s3: S3Server) -> FaultProxy:
    return proxies.add(s3.port.address)


@pytest.mark.parametrize("name", BROKEN)
def test_the_pipeline_delivers_all_while_the_store_is_broken_and_catches_up_when_it_is_back(
    name: str, recorded_with_remote: tuple[Site, Remote], proxy: FaultProxy,
    undisturbed: dict[str, str],
) -> None:  # fmt: skip
    (site, remote), (damage, faults) = recorded_with_remote, BROKEN[name]
    point_to(site, remote, every_s=0.3, endpoint=f"http://{proxy.address}",
             event_time={"idle_after": "off"})  # fmt: skip
    damage(proxy)
    process = site.start("--allow-fresh")  # an empty state beside a remote that is away
    try:
        wait_until(lambda: told(site, "replicator", "upload_failed"), site.story)
        wait_until(lambda: all_running(site) and all_applied(site), site.story)
        assert {e["fault"] for e in told(site, "replicator", "upload_failed")} <= faults
        wait_until(lambda: checkpoint(site)["breaker"] == "open", site.story)
        assert checkpoint(site)["fault"] == "unreachable"
        late = site.run("sda-supervisor", "wait", "--remote-durable", "--timeout", "500ms",
                        "--state", "state", check=False)  # fmt: skip
        assert late.returncode == 8
        assert "lacks" in late.stderr.splitlines()[-1]
        taken = len(told(site, "replicator", "snapshot"))
        assert taken, "the local cadence goes on"
        proxy.heal()
        done = site.run("sda-supervisor", "wait", "--remote-durable", "--state", "state")
        assert done.stdout.startswith("remote-durable: radar ")
        shown = {s["name"]: s for s in status(site)["sources"]}
        assert {s: shown[s]["remote"]["behind"] for s in shown} == dict.fromkeys(shown, 0)
        assert checkpoint(site)["breaker"] == "closed"
        assert checkpoint(site)["fault"] is None
        assert remote.good()[0].positions == {s: shown[s]["log_end"] for s in shown}
        site.run("sda-supervisor", "stop", "--state", "state")
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            kill_tree(process)
    site.finish()
    check(site, undisturbed)


def checkpoint(site: Site) -> dict[str, object]:
    found: dict[str, object] = status(site)["checkpoint"]["remote"]
    return found


@pytest.mark.parametrize("call_s", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_seconds_a_call_delay_the_upload_and_nothing_else(
    call_s: int, recorded_with_remote: tuple[Site, Remote], proxy: FaultProxy,
    undisturbed: dict[str, str],
) -> None:  # fmt: skip
    site, remote = recorded_with_remote
    point_to(site, remote, every_s=0.3, endpoint=f"http://{proxy.address}",
             event_time={"idle_after": "off"})  # fmt: skip
    proxy.delay(call_s * 1000)
    process = site.start()
    try:
        wait_until(lambda: all_applied(site), site.story)
        wait_until(lambda: told(site, "replicator", "snapshot"), site.story)
        wait_until(lambda: told(site, "replicator", "uploaded"), site.story, within_s=180)
        assert told(site, "replicator", "upload_failed") == [], "slow is not failed"
        assert told(site, "replicator", "uploaded")[0]["seconds"] >= 3 * call_s, "it took its time"
        site.run("sda-supervisor", "stop", "--state", "state")
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            kill_tree(process)
    site.finish()
    check(site, undisturbed)


@pytest.fixture
def overloaded() -> Iterator[str]:
    """The endpoint of a store that is always overloaded."""
    with overloaded_store() as endpoint:
        yield endpoint


def test_a_store_that_answers_503_is_left_alone_for_a_while(
    recorded_with_remote: tuple[Site, Remote], overloaded: str, undisturbed: dict[str, str]
) -> None:
    site, remote = recorded_with_remote
    point_to(site, remote, every_s=0.3, endpoint=overloaded, event_time={"idle_after": "off"})
    process = site.start("--allow-fresh")
    try:
        wait_until(lambda: all_applied(site), site.story)
        wait_until(lambda: checkpoint(site)["breaker"] == "open", site.story)
        site.run("sda-supervisor", "stop", "--state", "state")
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            kill_tree(process)
    failed = told(site, "replicator", "upload_failed")
    assert {event["fault"] for event in failed} == {"OVERLOADED"}
    assert "503 SlowDown" in failed[-1]["why"]
    site.finish()
    check(site, undisturbed)


@pytest.fixture
def full_store(tmp_path: Path) -> Iterator[tuple[S3Server, SmallDisk]]:
    """A store on a disk of 1 MiB, which is full already."""
    with demanded_disk(tmp_path / "small", "1m") as disk, S3Server(disk.directory) as server:
        disk.fill()
        yield server, disk


def test_a_full_store_is_told_and_taken_up_when_there_is_room(
    prepared: Site, full_store: tuple[S3Server, SmallDisk], tmp_path: Path,
    undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    server, disk = full_store
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    site, remote = prepared.copy_to(tmp_path / "site"), new_remote(server)
    point_to(site, remote, every_s=0.3, event_time={"idle_after": "off"})
    process = site.start()
    try:
        wait_until(lambda: told(site, "replicator", "upload_failed"), site.story)
        wait_until(lambda: all_applied(site), site.story)
        wait_until(lambda: checkpoint(site)["fault"] == "full", site.story)
        assert {event["fault"] for event in told(site, "replicator", "upload_failed")} == {"FULL"}
        disk.grow("64m")
        site.run("sda-supervisor", "wait", "--remote-durable", "--state", "state")
        site.run("sda-supervisor", "stop", "--state", "state")
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            kill_tree(process)
    site.finish()
    check(site, undisturbed)


def test_wait_takes_nothing_for_accepted_while_a_source_starts(
    recorded_with_remote: tuple[Site, Remote],
) -> None:
    site, _ = recorded_with_remote
    process = site.start(failpoints="radar.recovery_log_open=1:hang")
    try:
        wait_until(lambda: hangs(site, "radar"), site.story)
        found = site.run("sda-supervisor", "wait", "--remote-durable", "--timeout", "1500ms",
                         "--state", "state", check=False)  # fmt: skip
        assert found.returncode == 1, found.stdout
        assert "after 1.5 s not every source is ready" in found.stderr.splitlines()[-1]
        kill_operator(site, "radar")
        done = site.run("sda-supervisor", "wait", "--remote-durable", "--state", "state")
        assert done.stdout.startswith("remote-durable: radar ")
    finally:
        kill_tree(process)


def test_wait_says_that_there_is_no_remote(prepared: Site, tmp_path: Path) -> None:
    site = prepared.copy_to(tmp_path / "site")
    process = site.start()
    try:
        wait_until(lambda: all_running(site), site.story)
        found = site.run("sda-supervisor", "wait", "--remote-durable", "--state", "state",
                         check=False)  # fmt: skip
        assert found.returncode == 2
        assert "the pipeline has none; add 'checkpoint: s3:'" in found.stderr
    finally:
        kill_tree(process)
