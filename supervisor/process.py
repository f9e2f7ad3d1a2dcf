"""The one door to subprocess: spawn an operator or a tool, signal it, learn of its death.

No decisions.

A child inherits exactly the descriptors of its launch and the lock; it is watched by pidfd, so no
signal ever reaches a stranger with a reused pid. Children die with the thread that made them
(PR_SET_PDEATHSIG in their entry point): spawn from the main thread only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import sda_pipeline
from sda_pipeline.runtime.launch import Launch

Command = Callable[[str], list[str]]  # operator name -> argv before the launch argument

# Ctrl-C and a closed terminal reach the whole process group; draining is the supervisor's to lead.
_SUPERVISOR_ONLY = (signal.SIGINT, signal.SIGHUP)


def operator_command(name: str) -> list[str]:
    """The real operators: ``-P`` so that the current directory never shadows a module."""
    return [sys.executable, "-P", "-m", "operators", name]


@dataclass
class Child:
    """One living incarnation."""

    name: str
    incarnation: int
    process: subprocess.Popen[bytes]
    pidfd: int
    ready_fd: int  # read end of the readiness pipe
    log_offset: int  # where its own lines begin in the operator's log

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, signum: signal.Signals) -> None:
        """Signal it; no error when it is dead already."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signum)

    def is_ready(self) -> bool:
        """Whether the byte that says so has arrived; False at the pipe's end as well."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self.ready_fd, 1) == b"R"
        return False

    def reap(self) -> int:
        """The exit code, or minus the signal. Call when the pidfd says it is dead."""
        return self.process.wait()

    def close(self) -> None:
        """Close what the supervisor holds of a reaped child."""
        os.close(self.pidfd)
        os.close(self.ready_fd)


def spawn(command: Command, launch: Launch, inherited: Sequence[int], log: Path) -> Child:
    """Start one incarnation; OSError when the system cannot.

    ``launch.ready`` is filled in here. ``inherited`` are descriptors beyond those of the launch.
    """
    assert threading.current_thread() is threading.main_thread(), "children die with this thread"
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(ready_read, False)
    try:
        out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            offset = os.fstat(out).st_size
            launch = replace(launch, ready=ready_write)
            argv = [*command(launch.operator), launch.to_json()]
            process = _popen(argv, (*launch.descriptors(), *inherited), out)
        finally:
            os.close(out)
        pidfd = _open_pidfd(process)
    except BaseException:
        os.close(ready_read)
        raise
    finally:
        os.close(ready_write)
    return Child(launch.operator, launch.incarnation, process, pidfd, ready_read, offset)


@dataclass
class Tool:
    """One of the project's own commands as a child; what it prints is in ``log``."""

    command: str
    process: subprocess.Popen[bytes]
    pidfd: int
    log: Path
    log_offset: int  # where its own lines begin

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, signum: signal.Signals) -> None:
        """Signal it; no error when it is dead already."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signum)

    def exit_code(self) -> int | None:
        """The exit code, or minus the signal; None while it lives."""
        return self.process.poll()

    def dead(self) -> bool:
        """Whether it has ended."""
        return self.exit_code() is not None

    def wait(self) -> None:
        """Until it has ended."""
        self.process.wait()

    def reap(self) -> None:
        """Wait for its end and let go of it."""
        self.wait()
        os.close(self.pidfd)


def spawn_tool(argv: Sequence[str], log: Path) -> Tool:
    """Start a command of ``leash.MODULES``; OSError when the system cannot.

    It gets a session of its own, so that Ctrl-C reaches it only through its parent, and dies with
    its parent, also when that one is killed.
    """
    assert threading.current_thread() is threading.main_thread(), "children die with this thread"
    leash = [sys.executable, "-P", "-m", "supervisor.leash", str(os.getpid())]
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        offset = os.fstat(out).st_size
        process = subprocess.Popen(
            [*leash, *argv], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=_environment(),
            start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(out)
    return Tool(argv[0], process, _open_pidfd(process), log, offset)


def _open_pidfd(process: subprocess.Popen[bytes]) -> int:
    try:
        return os.pidfd_open(process.pid)
    except OSError:
        process.kill()
        process.wait()
        raise


def _popen(argv: list[str], fds: tuple[int, ...], out: int) -> subprocess.Popen[bytes]:
    """The child starts with the supervisor's own signals blocked, so none can hit it at birth."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SUPERVISOR_ONLY)
    try:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=fds, env=_environment()
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment() -> dict[str, str]:
    """The supervisor's own, and where its packages came from: the same code, whatever the cwd."""
    packages = str(Path(sda_pipeline.__file__).resolve().parents[1])
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{packages}{os.pathsep}{path}" if path else packages}
