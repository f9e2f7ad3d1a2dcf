"""A run under one class of fault: what was lost, what repeated, how long it was felt.

Which faults there are is in ``catalogue_of_faults.py``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sda_pipeline.clock import SystemClock
from sda_pipeline.topology import Topology, from_resolved_json
from tests.faults.watcher import Death, Watcher, deaths, until_alerts, until_output
from tests.process import verdict
from tests.process.flow import Run
from tests.process.site import Site, kill_tree
from tests.process.waiting import wait_until

Killing = Callable[[subprocess.Popen[bytes]], None]
SPEED = "10"  # of the playback: 150 s of event time in 15 s, room for ten faults


@dataclass
class Result:
    """Sums over the runs of one class of faults. ``seconds``: until there was output again."""

    runs: int = 0
    faults: int = 0
    lost: int = 0
    repeated: int = 0
    unseen: int = 0  # output came when nobody looked any more
    seconds: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was wrong, in words

    def felt(self, seconds: float | None) -> None:
        """One more fault, over after so long."""
        self.faults += 1
        if seconds is None:
            self.unseen += 1
        else:
            self.seconds.append(seconds)


class Experiment(Run):
    """Traffic into a pipeline that is being watched; a fault injects, ``close`` counts."""

    paced = False  # what is timed is the time of traffic that waits for nobody

    def __init__(
        self, prepared: Site, root: Path, seed: int, *, speed: str = SPEED,
        failpoints: str = "", **changes: object,
    ) -> None:  # fmt: skip
        site = prepared.copy_to(root, without="broker")
        self.rng = np.random.default_rng(seed)
        self.clock = SystemClock()
        super().__init__(site, speed=speed, failpoints=failpoints, **changes)
        self.failpoints = ""  # of the first life only
        self.watcher = Watcher(site)
        self.trees_killed: list[int] = []
        self.since: dict[str, int] = {}  # by operator: when its fault began, if not by its death
        self.play()

    @property
    def topology(self) -> Topology:
        return from_resolved_json((self.site.state / "topology.json").read_bytes())

    def moments(self, count: int) -> list[float]:
        """Shares of the traffic, early enough to see what follows."""
        return sorted(self.rng.uniform(0.05, 0.8, count).tolist())

    def kill_all(self, how: Killing = kill_tree) -> None:
        """The whole tree dies at one instant, or its supervisor does."""
        self.trees_killed.append(self.clock.wall_ns())
        how(self.pipeline)
        wait_until(lambda: not self.site.survivors(), self.story)

    def flows(self) -> None:
        """Wait until everything runs."""
        wait_until(self.all_running, self.story)

    def close(self, undisturbed: dict[str, str], result: Result) -> None:
        """Let it end, then count."""
        wait_until(lambda: self.traffic.poll() is not None, self.story)
        self.flows()
        seen = deaths(self.site)
        self.watcher.close()
        self.settle()
        result.runs += 1
        self.count_times(seen, result)
        count_effects(self.site, undisturbed, result)

    def count_times(self, seen: list[Death], result: Result) -> None:
        """Deaths that followed from another fault are part of that one's time."""
        samples = self.watcher.samples
        for at in self.trees_killed:
            result.felt(until_alerts(at, samples))
        if self.trees_killed:
            return
        named = {name.partition("#")[0] for name in self.schedule}
        for death in seen:
            if death.operator in named:
                since = self.since.get(death.operator)
                result.felt(until_output(death, samples, self.topology, since))


def count_effects(site: Site, undisturbed: dict[str, str], result: Result) -> None:
    """Finals that differ, alerts without effect and records without a class are lost; effects that
    the ledger's rules do not allow are repeated.
    """
    found, rows = verdict.finals(site), verdict.ledger(site)
    confirmed = {row["alert_id"] for row in rows if row["final"] and row["level"]}
    lost = [f"final {key} differs" for key, value in undisturbed.items() if found.get(key) != value]
    lost += [f"final {key} without effect" for key in undisturbed.keys() - confirmed]
    lost += verdict.audit_faults(site)
    repeated = verdict.ledger_faults(rows)
    repeated += [f"final {key} is one too many" for key in found.keys() - undisturbed.keys()]
    result.lost += len(lost)
    result.repeated += len(repeated)
    result.notes += [*lost, *repeated]
