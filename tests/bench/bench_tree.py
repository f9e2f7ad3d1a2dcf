"""A pipeline under measurement: started, watched through its control socket, killed by pid.

No figures: what is measured on it is in the phases.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import SdaError
from sda_pipeline.limits import SECOND_NS
from supervisor.control import ask
from tests.process.site import Site, kill_tree

LOOK_EVERY_S = 0.05
WITHIN_S = 300.0  # for anything that is waited for; the machine may be busy
END_WITHIN_S = 60.0

Status = dict[str, Any]


class BenchError(Exception):
    """The pipeline did not do what was to be measured."""


class Tree:
    """The supervisor of one site and its operators."""

    def __init__(self, site: Site) -> None:
        self.site, self.clock = site, SystemClock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *flags: str) -> int:
        """Start the supervisor; returns when (monotonic ns)."""
        began = self.clock.monotonic_ns()
        self._process = self.site.start(*flags)
        return began

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self._process is not None, "start comes first"
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        assert self._process is not None, "start comes first"
        return self._process.poll()

    def status(self) -> Status | None:
        """What the supervisor answers; None while it does not."""
        try:
            return ask(self.site.state, "status", "measure the pipeline")
        except SdaError:
            return None

    def wait(
        self,
        condition: Callable[[Status], object],
        what: str,
        every_s: float = LOOK_EVERY_S,
        within_s: float = WITHIN_S,
    ) -> tuple[Status, int]:
        """The first status for which the condition holds, and when it was seen (monotonic ns).

        BenchError with the pipeline's own story when it ends before, or does not in time.
        """
        deadline = self.clock.monotonic_ns() + round(within_s * SECOND_NS)
        while True:
            status = self.status()
            now = self.clock.monotonic_ns()
            if status is not None and condition(status):
                return status, now
            if self.exit_code is not None:
                raise BenchError(f"exit {self.exit_code} before {what}:\n{self.site.story()}")
            if now > deadline:
                raise BenchError(f"no {what} within {within_s:.0f} s:\n{self.site.story()}")
            self.clock.sleep(every_s)

    def kill_operator(self, status: Status, name: str) -> int:
        """SIGKILL an operator of the status by pid; returns when (monotonic ns)."""
        pid = operator(status, name)["pid"]
        began = self.clock.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        return began

    def kill(self) -> int:
        """SIGKILL to the supervisor and every operator at one instant; returns when."""
        assert self._process is not None, "start comes first"
        began = self.clock.monotonic_ns()
        kill_tree(self._process)
        return began

    def stop(self) -> None:
        """Drain it and wait until it is gone."""
        assert self._process is not None, "start comes first"
        self._process.terminate()
        code = self._process.wait(END_WITHIN_S)
        if code != 0:
            raise BenchError(f"the pipeline ended with {code}:\n{self.site.story()}")

    def finish(self) -> None:
        """Wait until a finite run ends by itself."""
        assert self._process is not None, "start comes first"
        code = self._process.wait(WITHIN_S)
        if code != 0:
            raise BenchError(f"the pipeline ended with {code}:\n{self.site.story()}")

    def end(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self._process is not None and self._process.poll() is None:
            kill_tree(self._process)


@contextlib.contextmanager
def tree_of(site: Site) -> Iterator[Tree]:
    """A tree that is gone afterwards."""
    tree = Tree(site)
    try:
        yield tree
    finally:
        tree.end()


@contextlib.contextmanager
def command(site: Site, name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of the project's commands beside the pipeline; it is asked to stop afterwards."""
    log: Path = site.root / f"{name}.out"
    with log.open("ab") as out:
        process = subprocess.Popen(
            site.command(name, *arguments),
            cwd=site.root, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_WITHIN_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()


def operator(status: Status, name: str) -> dict[str, Any]:
    """One operator of a status."""
    found: dict[str, Any] = next(o for o in status["operators"] if o["name"] == name)
    return found


def all_running(status: Status) -> bool:
    """Every operator has recovered and listens."""
    return all(o["state"] == "running" for o in status["operators"])


def delivered(status: Status) -> bool:
    """A finite input is applied to its end, and every alert of it is at the subscriber."""
    point = status["checkpoint"]
    return (
        all(s["ended"] and s["applied"] == s["log_end"] for s in status["sources"])
        and point["dirty"] == 0
        and point["sub_pos"] >= point["sink_pos"] >= point["outbox_end"]
    )
