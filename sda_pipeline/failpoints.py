"""Named points at which a test may kill or hang a process. Off unless SDA_FAILPOINTS is set.

``SDA_FAILPOINTS="correlator.after_commit=3:kill,radar.row@UUID:kill"``: the first at its third
hit, in the
operator's first incarnation only; the second whenever that observation id passes, in every
incarnation (several such items may name one point).
Actions: ``kill`` (SIGKILL to itself), ``kill_in_sync`` (SIGKILL while the main thread is inside
its next
fdatasync), ``hang`` (sleep without end).
"""

from __future__ import annotations

import os
import platform
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import UsageError

if TYPE_CHECKING:  # numpy costs each forwarder a tenth of a second at every start
    from sda_pipeline.records.rows import Rows

HANGS = "sda-hangs"  # the name of a process that hangs in a failpoint
_FDATASYNC = {"x86_64": "75", "aarch64": "83"}


@dataclass
class _Point:
    action: str
    at: int = 1
    hits: int = 0


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_in_sync() -> None:
    """Watch the calling thread's system call and kill the process while it is in fdatasync."""
    path = Path(f"/proc/self/task/{threading.get_native_id()}/syscall")
    wanted = _FDATASYNC[platform.machine()]

    def watch() -> None:
        with path.open(encoding="ascii") as file:
            while True:
                file.seek(0)
                if file.read().split(" ", 1)[0] == wanted:
                    _kill()

    threading.Thread(target=watch, daemon=True).start()


def _hang() -> None:
    Path("/proc/self/comm").write_text(HANGS, encoding="ascii")  # a test sees that it is here
    while True:
        SystemClock().sleep(3600)


ACTIONS: dict[str, Callable[[], None]] = {
    "kill": _kill,
    "kill_in_sync": _kill_in_sync,
    "hang": _hang,
}


def parse(text: str) -> dict[str, _Point]:
    """The points of an SDA_FAILPOINTS value by name; UsageError on a wrong one."""
    points: dict[str, _Point] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        where, _, action = item.rpartition(":")
        if not where or action not in ACTIONS:
            raise UsageError(
                f"read failpoint {item!r}",
                "it is not NAME[=N|@ID]:ACTION",
                f"actions: {[*ACTIONS]}",
            )
        if "@" in where:
            points[where.lower()] = _Point(action)
        else:
            name, _, count = where.partition("=")
            points[name] = _Point(action, int(count or "1"))
    return points


_points = parse(os.environ.get("SDA_FAILPOINTS", ""))
_incarnation = 1


def set_incarnation(number: int) -> None:
    """Tell which life of its operator this process is; counted points fire in the first only."""
    global _incarnation
    _incarnation = number


def hit(name: str) -> None:
    """Pass a point; acts at the configured hit of the first incarnation."""
    if not _points:
        return
    point = _points.get(name)
    if point is None or _incarnation != 1:
        return
    point.hits += 1
    if point.hits == point.at:
        ACTIONS[point.action]()


def armed(name: str) -> bool:
    """Whether any observation is to be watched for at this point."""
    return any(where.startswith(f"{name}@") for where in _points)


def hit_rows(name: str, rows: Rows) -> None:
    """Pass a point with rows in hand; acts when a configured observation is among them."""
    wanted = [where for where in _points if where.startswith(f"{name}@")]
    if wanted:
        from sda_pipeline.records.rows import uuid_text

        present = {f"{name}@{uuid_text(row['id'])}" for row in rows}
        for where in wanted:
            if where in present:
                ACTIONS[_points[where].action]()
