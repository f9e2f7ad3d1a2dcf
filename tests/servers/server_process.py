"""One server as a child process: start, wait until it answers, stop, kill, pause, by pid only.

It dies with this process, also when this one is killed. The kernel ties that to the *thread* that
made the child, so one thread that lives as long as the process makes them all. Not what it serves.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import Unreachable
from tests.process.waiting import wait_until

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 6.0  # SIGTERM to all nodes of a cluster at once hangs
LOOK_EVERY_S = 0.02
_LEASH = Path(__file__).with_name("exec_leashed.py")
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="servers")


def leashed(
    argv: Sequence[str], environment: Mapping[str, str], **options: Any
) -> subprocess.Popen[bytes]:
    """A process that the kernel kills when this one is gone; ``argv[0]`` is a path."""
    whole = [sys.executable, "-P", str(_LEASH), str(os.getpid()), *argv]
    return _SPAWNER.submit(subprocess.Popen, whole, env=environment, **options).result()


class Served(ABC):
    """A server, or several, as a context: running inside, gone after, also when a start fails."""

    @abstractmethod
    def start(self) -> None:
        """Start, and wait until it answers."""

    @abstractmethod
    def close(self) -> None:
        """Kill what runs and give back what is held."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class ServerProcess:
    """A command that can be started again and again; what it prints is appended to ``log``."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.argv, self.log = name, list(argv), log
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._clock = SystemClock()

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; it may not answer yet."""
        assert not self.running, f"{self.name} runs already"
        environment = {**os.environ, **self._environment}
        with self.log.open("ab") as out:
            self._process = leashed(
                self.argv, environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,  # Ctrl-C at the terminal is not for servers
            )  # fmt: skip

    def await_ready(self, answers: Callable[[], bool], within_s: float = READY_WITHIN_S) -> None:
        """Return when ``answers()``; Unreachable with the end of its log if it dies or is late."""
        deadline = self._clock.monotonic_ns() + round(within_s * 1e9)
        while not answers():
            if not self.running:
                raise Unreachable(f"start {self.name}", f"it exited {self._exit()}", self.story())
            if self._clock.monotonic_ns() > deadline:
                why = f"it does not answer after {within_s:.0f} s"
                raise Unreachable(f"start {self.name}", why, self.story())
            self._clock.sleep(LOOK_EVERY_S)

    def finish(self, within_s: float) -> None:
        """Wait for a command that ends by itself; Unreachable when it fails or is late."""
        assert self._process is not None, f"{self.name} was never started"
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired as error:
            self.kill()
            why = f"it took longer than {within_s:.0f} s"
            raise Unreachable(f"run {self.name}", why, self.story()) from error
        if code != 0:
            raise Unreachable(f"run {self.name}", f"it exited {code}", self.story())

    def stop(self, within_s: float = STOP_WITHIN_S) -> None:
        """SIGTERM, and SIGKILL when that is not enough. No error when it does not run."""
        self.ask_to_stop()
        self.reap(within_s)

    def ask_to_stop(self) -> None:
        """SIGTERM only, also to one that is paused; ``reap`` waits for the end."""
        self._send(signal.SIGTERM)
        self._send(signal.SIGCONT)

    def reap(self, within_s: float = STOP_WITHIN_S) -> None:
        """Wait for the end, and bring it about when it does not come in time."""
        if self._process is None:
            return
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, paused or not; it is dead on return."""
        if self._process is not None:
            self._send(signal.SIGKILL)
            self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: alive, connected and silent, down to its last thread when this returns."""
        self._send(signal.SIGSTOP)
        wait_until(lambda: not self.running or self._all_stopped(), self.story)

    def resume(self) -> None:
        """SIGCONT."""
        self._send(signal.SIGCONT)

    def story(self) -> str:
        """The end of its log, for an error or a failing test."""
        return f"its log {self.log} ends:\n{self.log.read_text(errors='replace')[-3000:]}"

    def _exit(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    def _all_stopped(self) -> bool:
        """Every thread: each stops on its own, at its next step into the kernel or out of it."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in threads)

    def _send(self, signum: signal.Signals) -> None:
        if self.running:
            assert self._process is not None
            self._process.send_signal(signum)
