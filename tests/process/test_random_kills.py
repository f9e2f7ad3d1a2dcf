"""Kills from outside at random moments while traffic flows; effects stay exactly once.

The seed is printed and replays the schedule: ``SDA_SEED=N make tests``. Moments are counted in
messages seen by the pipeline, not in seconds, so a slow machine runs the same schedule.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import psutil
import pytest

from tests.process import verdict
from tests.process.site import Site, kill_tree
from tests.process.test_crash import KIND_OF
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process

SEED = int(os.environ.get("SDA_SEED", "20261123"))
KILLS = 10
PLAY_SPEED = "12"  # 150 s of event time in 12.5 s
FLOWING = {"event_time": {"idle_after": "off"}}  # a faster event time than the wall clock's


class Run:
    """A pipeline into which recorded traffic flows while a test disturbs it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        site.write_topology(**FLOWING)
        self.pipeline = site.start()
        wait_until(self.running, site.story)
        self.traffic = subprocess.Popen(
            site.command("sda-sim", "play", "traffic.jsonl", "--speed", PLAY_SPEED),
            cwd=site.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def running(self) -> bool:
        operators = self.site.status().get("operators", [])
        return bool(operators) and all(o["state"] == "running" for o in operators)

    def pid_of(self, operator: str) -> int | None:
        found = [o for o in self.site.status().get("operators", []) if o["name"] == operator]
        return found[0]["pid"] if found and found[0]["state"] == "running" else None

    def wait_for_share(self, share: float) -> None:
        """Until this share of the recording's event time has been played."""
        wait_until(lambda: self.share() >= share or self.traffic.poll() is not None, self.site.story)

    def share(self) -> float:
        started = psutil.Process(self.traffic.pid).create_time()
        return (psutil.time.time() - started) / 12.5

    def kill(self, operator: str) -> None:
        wait_until(lambda: self.pid_of(operator), self.site.story)
        pid = self.pid_of(operator)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def finish(self, undisturbed: dict[str, str]) -> None:
        """Let the traffic end, stop, then finish the finite input and check everything."""
        assert self.traffic.wait(120) == 0
        wait_until(self.running, self.site.story)
        self.site.run("sda-supervisor", "stop", "--state", "state")
        self.pipeline.wait(60)
        self.site.finish()
        verdict.check(self.site, undisturbed)
