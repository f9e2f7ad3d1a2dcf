"""The state directory as the supervisor's own: its rights, its lock, its two markers.

The lock is an flock on a descriptor every child inherits, so it is free exactly when the last
process of a tree is dead. Not the contents of the state: each store has its owner.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from sda_pipeline.clock import Clock
from sda_pipeline.durable_file import write_durably
from sda_pipeline.errors import AlreadyRunning, InvalidConfiguration
from sda_pipeline.limits import LOCK_WAIT_S, SECOND_NS

COMPLETE = "complete"  # a finite run has delivered everything: no further start
ENDING = "ending"  # a finite run has begun: every further start finishes it
_RETRY_S = 0.02
_KNOWN = frozenset(
    {
        "lock", "control.sock", "log", "logs", "correlator", "snapshots", "alerts.sqlite", "dlq",
        "quarantine.jsonl", "recoveries", "reprocess.sqlite", "topology.json", COMPLETE, ENDING,
    }
)  # fmt: skip


def prepare(state: Path) -> None:
    """Make the state directory, 0700 and ours. InvalidConfiguration when it cannot be.

    A directory that holds something else is refused before anything in it is touched.
    """
    action = f"use the state directory {state}"
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_foreign("it", state, action)
        names = {path.name for path in state.iterdir()}
        if names and not names & _KNOWN:
            why = f"it holds other files ({', '.join(sorted(names)[:3])})"
            raise InvalidConfiguration(action, [why], "name a directory of its own")
        for path in (*state.glob("*"), *state.glob("*/*")):
            _refuse_foreign(str(path.relative_to(state)), path, action)
        state.chmod(0o700)
        (state / "logs").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise InvalidConfiguration(
            action, [f"{error.strerror}: {error.filename or state}"], "name a writable directory"
        ) from error


def check_owner(directory: Path) -> None:
    """InvalidConfiguration when a directory outside the state is there and not ours."""
    _refuse_foreign("it", directory, f"use the directory {directory}")


def _refuse_foreign(what: str, path: Path, action: str) -> None:
    """Files of two users in one store would end in a store that neither can use."""
    try:
        owner = path.lstat().st_uid
    except FileNotFoundError:  # not there yet, or a temporary file of a tree that is just ending
        return
    if owner != os.geteuid():
        why = f"{what} belongs to user {owner}, not to {os.geteuid()}"
        raise InvalidConfiguration(action, [why], "run as its owner or name another directory")


def take_lock(state: Path, clock: Clock, answered_by: Callable[[], int | None]) -> int:
    """The locked descriptor. AlreadyRunning at once when a supervisor answers, else after 10 s.

    ``answered_by`` asks the control socket and returns the pid of who answers. The wait is for the
    rest of a tree whose supervisor was killed: its processes die within moments.
    """
    path = state / "lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        why = [f"{path}: {error.strerror}"]
        raise InvalidConfiguration("lock the state directory", why, "see its rights") from error
    deadline = clock.monotonic_ns() + round(LOCK_WAIT_S * SECOND_NS)
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        pid = answered_by()
        if pid is not None:
            os.close(fd)
            raise AlreadyRunning(
                "start", f"the pipeline in {state} is running (pid {pid})", "stop it first"
            )
        if clock.monotonic_ns() >= deadline:
            pids = ", ".join(map(str, holders(path))) or "unknown"
            os.close(fd)
            raise AlreadyRunning(
                "start", f"{path} is held by pids {pids} and no supervisor answers", "end them"
            )
        clock.sleep(_RETRY_S)


def holders(lock: Path) -> list[int]:
    """Pids that hold the flock through a descriptor of theirs, as far as we may look."""
    wanted = lock.stat()
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):  # it is gone, or not ours to see
                if any(_holds(process, fd, wanted) for fd in (process / "fd").iterdir()):
                    found.append(int(process.name))
    return sorted(found)


def _holds(process: Path, fd: Path, wanted: os.stat_result) -> bool:
    with contextlib.suppress(OSError):  # closed in the meantime
        if os.path.samestat(fd.stat(), wanted):
            return "FLOCK" in (process / "fdinfo" / fd.name).read_text(encoding="ascii")
    return False


def mark(state: Path, name: str, content: str) -> None:
    """Write a marker file whole and durably: temp file, fsync, rename, fsync of the directory."""
    write_durably(state / name, content.encode())
