"""SIGKILL by pid under live traffic, and how long until there is output again. Draws no conclusion.

Next output of a source and of the operators every observation passes: a frame that was logged after
the kill is applied by the correlator, so it went through the new incarnation. Of the others: they
are ready again and hold nothing back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.topology import SOURCE_KINDS, Topology
from tests.bench.bench_inputs import Say
from tests.bench.bench_tree import Status, Tree, all_running, operator

LOOK_EVERY_S = 0.01
FLOW_KINDS = frozenset({"normalize", "prioritize", "correlator"})
SETTLED_LAG = 2_000  # messages: a fifth of a second of the nominal rate
SETTLED_FRAMES = 20


@dataclass
class Restarts:
    """Seconds from each kill, by operator and for the whole tree."""

    output_s: dict[str, list[float]]
    ready_s: dict[str, list[float]]
    tree_s: list[float] = field(default_factory=list)
    tree_ready_s: list[float] = field(default_factory=list)

    @property
    def all_s(self) -> list[float]:
        """Of every operator, killed alone."""
        return [seconds for times in self.output_s.values() for seconds in times]


def kill_operators(tree: Tree, topology: Topology, rounds: int, say: Say) -> Restarts:
    """Kill each operator ``rounds`` times, one at a time, in turns, the pipeline settled before."""
    found = Restarts({n: [] for n in topology.names}, {n: [] for n in topology.names})
    for turn in range(rounds):
        for name in topology.names:
            before, _ = tree.wait(settled, "the pipeline to settle")
            began = tree.kill_operator(before, name)
            _measure(tree, topology, name, before, began, found)
            took = found.output_s[name][-1]
            say(f"killed {name} ({turn + 1} of {rounds}): output again after {took:.2f} s")
    return found


def _measure(
    tree: Tree, topology: Topology, name: str, before: Status, began: int, found: Restarts
) -> None:
    life = operator(before, name)["incarnation"]
    # What is logged by now may have passed the dead one; what comes later cannot have.
    dead, _ = tree.wait(lambda s: _gone(s, name, life), f"{name} to die", LOOK_EVERY_S)
    output = next_output(topology, name, logged(dead))
    _, ready = tree.wait(lambda s: _lives(s, name, life), f"{name} to return", LOOK_EVERY_S)
    _, again = tree.wait(output, f"the next output of {name}", LOOK_EVERY_S)
    found.ready_s[name].append((ready - began) / SECOND_NS)
    found.output_s[name].append((again - began) / SECOND_NS)


def kill_trees(tree: Tree, topology: Topology, times: int, found: Restarts, say: Say) -> None:
    """Kill everything at one instant and start again at once, ``times`` times."""
    for turn in range(times):
        tree.wait(settled, "the pipeline to settle")
        began = tree.kill()
        tree.start()
        possible = partial(alert_possible, first={})
        _, moved = tree.wait(possible, "the next applied frame", LOOK_EVERY_S)
        _, ready = tree.wait(all_running, "every operator to be ready", LOOK_EVERY_S)
        found.tree_s.append((moved - began) / SECOND_NS)
        found.tree_ready_s.append((ready - began) / SECOND_NS)
        say(
            f"killed the whole tree ({turn + 1} of {times}): alerts possible after "
            f"{found.tree_s[-1]:.2f} s, all ready after {found.tree_ready_s[-1]:.2f} s"
        )


def alert_possible(status: Status, first: dict[str, int]) -> bool:
    """A frame logged after the start is applied, and whoever an alert passes is running.

    ``first`` remembers where each log ended when it was first seen: 0 says it is not open yet.
    """
    moved = False
    for source in status["sources"]:
        if source["log_end"]:
            first.setdefault(source["name"], source["log_end"])
            moved |= source["applied"] > first[source["name"]]
    on_the_way = ("correlator", "alert-sink", "subscriber")
    kinds = {o["kind"]: o["state"] for o in status["operators"]}
    return moved and all(kinds[kind] == "running" for kind in on_the_way)


def next_output(topology: Topology, name: str, mark: dict[str, int]) -> Callable[[Status], bool]:
    """What shows that an operator has put something out since the log ends ``mark``."""
    kind = topology.kind_of(name)
    if kind in SOURCE_KINDS or kind in FLOW_KINDS:
        wanted = {name} if kind in SOURCE_KINDS else set(mark)
        return lambda s: any(
            x["applied"] > mark[x["name"]] for x in s["sources"] if x["name"] in wanted
        )
    if kind == "alert-sink":
        return lambda s: s["checkpoint"]["sink_pos"] >= s["checkpoint"]["outbox_end"]
    if kind == "subscriber":
        return lambda s: s["checkpoint"]["sub_pos"] >= s["checkpoint"]["sink_pos"]
    return lambda _: True


def settled(status: Status) -> bool:
    """Everything runs and nothing has piled up."""
    return all_running(status) and all(
        s["lag"] is not None
        and s["lag"] <= SETTLED_LAG
        and s["log_end"] - s["applied"] <= SETTLED_FRAMES
        for s in status["sources"]
    )


def logged(status: Status) -> dict[str, int]:
    """The end of each source's log."""
    return {s["name"]: s["log_end"] for s in status["sources"]}


def _gone(status: Status, name: str, life: int) -> bool:
    found = operator(status, name)
    return bool(found["incarnation"] > life or found["state"] != "running")


def _lives(status: Status, name: str, life: int) -> bool:
    found = operator(status, name)
    return bool(found["incarnation"] > life and found["state"] == "running")
