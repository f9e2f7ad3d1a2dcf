"""Damage between operators and operators that stand still: new rings, upstream restarted, nothing
lost.
"""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from sda_pipeline.errors import ExitCode
from sda_pipeline.ring import layout
from sda_pipeline.state.recovery import CORRELATOR, SNAPSHOTS
from sda_pipeline.state.snapshot import manifests
from supervisor.control import ask
from tests.process import state_rig, verdict
from tests.process.flow import Run
from tests.process.site import Site
from tests.process.test_crash import KIND_OF, rewinds
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process

EDGE = "prioritize->correlator"
Damage = Callable[[mmap.mmap], None]


def ring_memory(supervisor: int, edge: str) -> mmap.mmap:
    """The shared memory of an edge, through the supervisor's own descriptor."""
    for link in Path(f"/proc/{supervisor}/fd").iterdir():
        if edge in str(link.readlink()):
            fd = os.open(link, os.O_RDWR)
            try:
                return mmap.mmap(fd, 0)
            finally:
                os.close(fd)
    raise AssertionError(f"the supervisor holds no ring {edge}")


def unreleased(memory: mmap.mmap) -> int:
    """Where the first slot lies that the consumer has not released."""
    with memoryview(memory) as view, view.cast("Q") as cells:
        released = cells[layout.WORD_RELEASED]
        assert cells[layout.WORD_HEAD] > released, "the ring must hold something to damage"
        return layout.CONTROL_BYTES + released % cells[layout.WORD_CAPACITY]


def flip_header(memory: mmap.mmap) -> None:
    memory[unreleased(memory) + 1] ^= 0x10


def flip_payload(memory: mmap.mmap) -> None:
    memory[unreleased(memory) + layout.payload_offset(96) + 200] ^= 0x10


def flip_cursor(memory: mmap.mmap) -> None:
    memory[layout.WORD_RELEASED * 8] ^= 0x01


def lose_a_frame(memory: mmap.mmap) -> None:
    """Release the first frame, which nobody has applied: the next one stands beyond a gap."""
    length, head_length, *_ = layout.SLOT.unpack_from(memory, unreleased(memory))
    with memoryview(memory) as view, view.cast("Q") as cells:
        cells[layout.WORD_RELEASED] += layout.slot_bytes(head_length, length)


@pytest.mark.parametrize("damage", [flip_header, flip_payload, flip_cursor, lose_a_frame])
def test_damage_in_a_ring_is_a_rewind(
    damage: Damage, site: Site, undisturbed: dict[str, str]
) -> None:
    # It hangs with its input unreleased; killed, it comes back and reads the damage.
    process = site.start("--end-of-input", failpoints="correlator.after_read=1:hang")
    wait_until(lambda: site.stands_in("correlator", "READ"), site.story)
    status = site.status()
    memory = ring_memory(process.pid, EDGE)
    try:
        wait_until(lambda: holds_frames(memory), site.story)
        damage(memory)
    finally:
        memory.close()
    correlator = next(o for o in status["operators"] if o["name"] == "correlator")
    os.kill(correlator["pid"], signal.SIGKILL)
    wait_until(lambda: process.poll() is not None or edge_rewinds(site) > 0, site.story)
    assert process.poll() is None, "counted while it runs"
    assert finished(process, site) == 0, site.story()
    assert rewinds(site) >= 1, site.story()
    verdict.check(site, undisturbed)


def edge_rewinds(site: Site) -> int:
    """The counter, as a user reads it."""
    supervisor = state_rig.status(site).get("supervisor", {})
    return int(supervisor.get("edge_rewinds_total", 0))


def holds_frames(memory: mmap.mmap) -> bool:
    """At least two frames of rows wait in the ring."""
    with memoryview(memory) as view, view.cast("Q") as cells:
        return cells[layout.WORD_HEAD] - cells[layout.WORD_RELEASED] > 2000


def finished(process: subprocess.Popen[bytes], site: Site) -> int:
    wait_until(lambda: process.poll() is not None, site.story)
    return process.returncode


IMPATIENT = {"heartbeat_alert_s": 1, "heartbeat_kill_s": 2}


def test_an_operator_that_hangs_is_found_by_its_heartbeat(
    site: Site, undisturbed: dict[str, str]
) -> None:
    site.write_topology(limits=IMPATIENT)
    site.finish(failpoints="correlator.after_commit=2:hang")
    assert any(event["event"] == "hung" for event in site.events("supervisor")), site.story()
    verdict.check(site, undisturbed)


def test_a_correlator_restored_from_a_snapshot_older_than_its_rings(
    recorded: Site, undisturbed: dict[str, str]
) -> None:
    """Its store is deleted under it; the snapshot that serves stands before what it had applied."""
    run = Run(recorded, failpoints="replicator.after_begin=2:hang")
    site = run.site
    run.play()
    wait_until(lambda: manifests(site.state / SNAPSHOTS), run.story)
    run.wait_for(0.3)
    wait_until(lambda: state_rig.hangs(site, "replicator"), run.story)
    (snapshot,) = manifests(site.state / SNAPSHOTS)
    run.wait_for(0.5)
    words = ask(site.state, "board", "look")["words"]
    assert any(words[f"{source}.applied"] > at for source, at in snapshot.positions.items())
    state_rig.remove(site.state / CORRELATOR)
    run.kill("correlator", "replicator")
    run.finish(undisturbed)
    (rewind,) = state_rig.told(site, "supervisor", "rewind")
    assert rewind["operator"] == "correlator"
    assert {"radar", "optical", "isl", "normalize", "prioritize"} <= {*rewind["operators"]}
    deaths = [
        e for e in state_rig.told(site, "supervisor", "died") if e["operator"] == "correlator"
    ]
    assert [death["exit"] for death in deaths[:2]] == [-signal.SIGKILL, ExitCode.REWIND]
    (restored, *later) = state_rig.told(site, "correlator", "recovered")[1:]
    assert (restored["path"], restored["snapshot"]) == ("snapshot", snapshot.sequence)
    assert {line["path"] for line in later} == {"local"}
    assert "its store stands at" in state_rig.told(site, "correlator", "failed")[0]["error"]


@pytest.mark.parametrize("how", [[], ["--kill"]])
def test_every_operator_restarted_by_command(
    how: list[str], run: Run, undisturbed: dict[str, str]
) -> None:
    run.play()
    for number, operator in enumerate(KIND_OF):
        run.wait_for(0.03 + 0.09 * number)
        wait_until(run.all_running, run.story)
        run.site.run("sda-supervisor", "restart", operator, *how, "--state", "state")
    run.finish(undisturbed)
    assert all(run.site.lives(operator) >= 2 for operator in KIND_OF), run.story()


def test_a_spent_budget_names_the_operator_and_says_why(site: Site) -> None:
    document = site.topology.read_text()
    restart = "restart: {budget_deaths: 3, backoff_s: 0.01}"
    site.topology.write_text(
        document.replace("- name: normalize\n", f"- name: normalize\n  {restart}\n")
    )
    process = site.start()
    for life in range(1, 4):
        wait_until(lambda life=life: site.lives("normalize") == life, site.story)
        wait_until(lambda: kill_if_running(site, "normalize"), site.story)
    assert finished(process, site) == 6, site.story()
    said = (site.root / "supervisor.out").read_text().splitlines()
    log = site.state / "logs" / "normalize.jsonl"
    (at,) = [n for n, line in enumerate(said) if line.startswith("cannot ")]
    assert said[at] == (
        "cannot keep normalize running: 3 deaths within 60 s, the last: killed by SIGKILL; "
        f"see {log}"
    )
    shown = [line.removeprefix("  ") for line in said[at + 1 :]]
    assert shown, "the last lines of its log"
    assert shown == log.read_text().splitlines()[-len(shown) :]
    ready = orjson.loads(shown[-1])
    assert (ready["operator"], ready["event"], ready["incarnation"]) == ("normalize", "ready", 3)
    assert verdict.left_behind(site) == []


def kill_if_running(site: Site, operator: str) -> bool:
    for found in site.status().get("operators", []):
        if found["name"] == operator and found["state"] == "running" and found["pid"]:
            os.kill(found["pid"], signal.SIGKILL)
            return True
    return False
