"""The commands a demo runs as its children, and what wakes it: deaths, signals, a reader that left.

Not what it does with them.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from sda_pipeline.errors import ExitCode, SdaError
from supervisor.logtail import tail
from supervisor.process import Tool, spawn_tool
from supervisor.relayed import Relayed
from supervisor.wakeup import StopSignals

LOG_LINES = 200
_HINT = "run it again, nothing is lost"


class Children:
    """A context: on leaving, every child is dead and reaped, and signals are as they were."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._ending = contextlib.ExitStack()
        self._tools: list[Tool] = []
        self.asked = 0  # stop signals so far

    def __enter__(self) -> Children:
        with contextlib.ExitStack() as ending:
            self._selector = ending.enter_context(selectors.DefaultSelector())
            signals = StopSignals(self._selector, self._on_signal)
            ending.enter_context(contextlib.closing(signals))
            ending.callback(self._kill_rest)
            self._ending = ending.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def _on_signal(self, _number: signal.Signals) -> None:
        self.asked += 1

    def spawn(self, *argv: str) -> Tool:
        """Start one of our commands; what it prints goes to a log of its own."""
        try:
            tool = spawn_tool(argv, self._logs / f"demo-{argv[0]}.log")
        except OSError as error:
            raise SdaError(f"start {argv[0]}", str(error), "see the system's limits") from error
        self._tools.append(tool)
        self._wake(tool.pidfd, lambda: None)
        return tool

    def watch_reader(self, left: Callable[[], None]) -> None:
        """Learn at once when the reader of a pipe goes away, not only with the next line."""
        with contextlib.suppress(OSError, ValueError):
            out = sys.stdout.fileno()
            if stat.S_ISFIFO(os.fstat(out).st_mode):
                self._wake(out, left)  # the end to write to is "readable" when it is broken

    def _wake(self, fd: int, then: Callable[[], None]) -> None:
        """Call ``then`` at the first event of ``fd``."""

        def once() -> None:
            self._selector.unregister(fd)
            then()

        self._selector.register(fd, selectors.EVENT_READ, once)

    def wait(self, timeout_s: float) -> None:
        """Until something happens, at most so long."""
        for key, _ in self._selector.select(timeout_s):
            key.data()

    def any_dead(self) -> bool:
        """Whether one has ended. Those of ``finish`` are forgotten."""
        return any(tool.dead() for tool in self._tools)

    def finish(self, tool: Tool) -> None:
        """Let go of a dead one; raises what went wrong with it."""
        self._tools.remove(tool)
        tool.reap()
        check(tool)

    def _kill_rest(self) -> None:
        for tool in self._tools:
            tool.send(signal.SIGKILL)
        for tool in self._tools:
            tool.reap()


def said(tool: Tool) -> list[str]:
    """The last lines it has printed in this life."""
    return tail(tool.log, LOG_LINES, tool.log_offset)


def check(tool: Tool) -> None:
    """Raise what a dead tool said about its end, unless it was a good one."""
    code = tool.exit_code()
    if not code:
        return
    if code < 0:
        why = f"{tool.command} was killed by {signal.Signals(-code).name}"
        raise SdaError("keep the demo running", why, _HINT)
    lines = said(tool)
    at = max((i for i, line in enumerate(lines) if line.startswith("cannot ")), default=None)
    if at is None or code not in set(ExitCode):
        why = f"{tool.command} ended with exit code {code}"
        raise SdaError("keep the demo running", why, f"see {tool.log}")
    raise Relayed(lines[at], code, lines[at + 1 :])
