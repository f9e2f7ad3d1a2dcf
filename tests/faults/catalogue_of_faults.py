"""Every class of fault, how it is injected, and what injects it. The measuring is experiment.py."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.experiment import Experiment, Killing
from tests.process import test_kill_matrix, test_rewind
from tests.process.site import Site, kill_tree
from tests.process.state_rig import flip, remove
from tests.process.test_crash import KIND_OF
from tests.process.test_random_kills import kill_supervisor_alone
from tests.process.waiting import wait_until

KILLS = 10  # in one run
TREE_KILLS = 3
FAST = "15"
DATA = Path("correlator") / "data.mdb"


class Fault(NamedTuple):
    """A row of the table. ``inject`` acts on running traffic; ``setup`` is for the experiment.

    ``once``: a single run says all, since the schedule holds every case.
    """

    name: str
    how: str
    inject: Callable[[Experiment], None]
    setup: dict[str, Any] = {}  # noqa: RUF012 - never changed
    once: bool = False


def kill_operator(experiment: Experiment, name: str) -> None:
    for share in experiment.moments(KILLS):
        experiment.wait_for(share)
        experiment.kill(name)


def kill_pairs(experiment: Experiment) -> None:
    for share in experiment.moments(KILLS // 2):
        experiment.wait_for(share)
        experiment.kill(*experiment.rng.choice([*KIND_OF], 2, replace=False).tolist())


def kill_trees(experiment: Experiment, how: Killing = kill_tree) -> None:
    for share in experiment.moments(TREE_KILLS):
        experiment.wait_for(share)
        experiment.kill_all(how)
        experiment.start()


def kill_tree_again(experiment: Experiment) -> None:
    """As soon as the correlator is back, everything dies once more."""
    experiment.wait_for(0.4)
    experiment.kill_all()
    lives = experiment.site.lives("correlator")
    experiment.pipeline = experiment.site.start()
    wait_until(lambda: experiment.site.lives("correlator") > lives, experiment.story)
    experiment.trees_killed.clear()  # nothing came out between the two
    experiment.kill_all()
    experiment.start()


def restart_all(experiment: Experiment, *flags: str) -> None:
    for number, name in enumerate(KIND_OF):
        experiment.wait_for(0.03 + 0.08 * number)
        experiment.flows()
        experiment.schedule.append(name)
        experiment.site.run("sda-supervisor", "restart", name, *flags, "--state", "state")


def stand_still(experiment: Experiment, name: str) -> None:
    """Stopped by SIGSTOP: found by its heartbeat, killed, started anew."""
    experiment.wait_for(0.3)
    experiment.since[name] = experiment.clock.wall_ns()
    experiment.schedule.append(name)
    lives = experiment.site.lives(name)
    assert experiment.signalled([name], signal.SIGSTOP)
    wait_until(lambda: experiment.site.lives(name) > lives, experiment.story)


def damage_ring(experiment: Experiment, damage: test_rewind.Damage) -> None:
    """The correlator stands while its input is damaged, is killed, comes back and reads that."""
    experiment.wait_for(0.3)
    correlator = experiment.operators()["correlator"]
    os.kill(int(str(correlator["pid"])), signal.SIGSTOP)
    memory = test_rewind.ring_memory(experiment.pipeline.pid, test_rewind.EDGE)
    try:
        wait_until(lambda: test_rewind.holds_frames(memory), experiment.story)
        damage(memory)
    finally:
        memory.close()
    experiment.since["correlator"] = experiment.clock.wall_ns()
    rewinds = test_rewind.rewinds(experiment.site)
    experiment.schedule.append("correlator")
    os.kill(int(str(correlator["pid"])), signal.SIGKILL)
    wait_until(lambda: test_rewind.rewinds(experiment.site) > rewinds, experiment.story)
    experiment.flows()


def lose_state(experiment: Experiment, lose: Callable[[Site], object]) -> None:
    """The whole tree dies, something on disk is damaged or gone, it is started again."""
    experiment.wait_for(0.5)
    wait_until(lambda: told_snapshot(experiment.site), experiment.story)
    experiment.kill_all()
    lose(experiment.site)
    experiment.start()


def told_snapshot(site: Site) -> bool:
    return any(event["event"] == "snapshot" for event in site.events("replicator"))


def lose_store_and_snapshots(site: Site) -> None:
    remove(site.state / "correlator")
    remove(site.state / "snapshots")


def no_fault(_: Experiment) -> None:
    """The bad input itself is the fault: the recording holds 5 % corrupt messages."""


def gaps(number: int) -> Fault:
    names = [test_kill_matrix.gap_of(name, number) for name in KIND_OF]
    points = ",".join(f"{name}={2 + 3 * order}:kill" for order, name in enumerate(names))
    return Fault(
        "SIGKILL between two steps", "a failpoint in each gap of each operator",
        lambda experiment: experiment.schedule.extend(KIND_OF),
        {"failpoints": points, "speed": FAST}, once=True,
    )  # fmt: skip


def catalogue_of_faults() -> list[Fault]:
    """Every row of the table; rows of one name are added up."""
    found = [Fault("none", "5 % of the traffic is corrupt", no_fault, {"speed": FAST})]
    found += [
        Fault(f"SIGKILL {name}", "kill -9 by pid, 10 random moments",
              partial(kill_operator, name=name))
        for name in KIND_OF
    ]  # fmt: skip
    found.append(Fault("SIGKILL two operators", "kill -9 by pid, 5 random moments", kill_pairs))
    found += [gaps(number) for number in test_kill_matrix.ROUNDS]
    found += [
        Fault("SIGKILL the supervisor", "kill -9 by pid, 3 random moments, start again",
              partial(kill_trees, how=kill_supervisor_alone)),
        Fault("SIGKILL the whole tree", "kill -9 of the group, 3 random moments, start again",
              kill_trees),
        Fault("SIGKILL the tree, again in recovery", "a second time when the correlator is back",
              kill_tree_again, {"speed": FAST}),
        Fault("restart", "sda-supervisor restart, every operator in turn", restart_all),
        Fault("restart --kill", "the same by SIGKILL", lambda e: restart_all(e, "--kill")),
    ]  # fmt: skip
    impatient = {"limits": test_rewind.IMPATIENT, "speed": FAST}
    found += [
        Fault("hang", f"SIGSTOP {name}; killed after 2 s without heartbeat",
              partial(stand_still, name=name), impatient)
        for name in ("radar", "correlator", "subscriber")
    ]  # fmt: skip
    found += [
        Fault(f"ring: {words}", "written into the shared memory; a rewind",
              partial(damage_ring, damage=damage), {"speed": FAST})
        for words, damage in (
            ("byte of a header", test_rewind.flip_header),
            ("byte of a payload", test_rewind.flip_payload),
            ("byte of a cursor", test_rewind.flip_cursor),
            ("a frame lost", test_rewind.lose_a_frame),
        )
    ]  # fmt: skip
    lost: list[tuple[str, Callable[[Site], object]]] = [
        ("correlator's LMDB deleted", lambda site: remove(site.state / "correlator")),
        ("correlator's LMDB flipped", lambda site: flip(site.state / DATA, 4096 + 16)),
        ("LMDB and snapshots deleted", lose_store_and_snapshots),
        ("a source's log deleted", lambda site: remove(site.state / "log" / "radar")),
        ("the state directory deleted", lambda site: remove(site.state)),
    ]
    found += [
        Fault(words, "tree killed, files changed, start again", partial(lose_state, lose=lose),
              {"speed": FAST})
        for words, lose in lost
    ]  # fmt: skip
    return found
