"""Operators stopped by SIGSTOP and continued: in time, or when the supervisor has given them up.

One of every kind. Continued before the limit, nothing happens but a delay; continued again and
again from the moment they are found hanging, none writes anything once it is dead, and only then
is there a successor.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from sda_pipeline.clock import SystemClock
from tests.process.flow import Run
from tests.process.site import Site
from tests.process.test_crash import KIND_OF, rewinds
from tests.process.waiting import WITHIN_S, wait_until

pytestmark = pytest.mark.process

LIMITS = {"heartbeat_alert_s": 1, "heartbeat_kill_s": 8}
ONE_OF_EACH_KIND = sorted({kind: operator for operator, kind in KIND_OF.items()}.values())
NOTICED_S = 1.2  # longer than an operator that waits is ever silent
STORES = {
    "isl": "state/log/isl/*",
    "correlator": "state/correlator/data.mdb",
    "alert-sink": "state/alerts.sqlite*",
    "subscriber": "subscriber/*",
    "dlq-sink": "state/dlq/*",
    "replicator": "state/snapshots/*",
}  # a forwarder has none


def test_stopped_operators_lose_nothing_and_never_outlive_their_successors(
    recorded: Site, undisturbed: dict[str, str]
) -> None:
    assert {KIND_OF[operator] for operator in ONE_OF_EACH_KIND} == {*KIND_OF.values()}
    assert STORES.keys() == {o for o in ONE_OF_EACH_KIND if KIND_OF[o] != "stateless"}
    run = Run(recorded, limits=LIMITS)
    run.play()
    for number, operator in enumerate(ONE_OF_EACH_KIND):
        run.wait_for(0.05 + 0.07 * number)
        stop_and_continue(run, operator)
    assert [o for o in KIND_OF if run.site.lives(o) != 1] == [], run.story()
    run.wait_for(0.6)
    given_up(run)
    run.finish(undisturbed)
    assert rewinds(run.site) == 0, "deaths need no new rings"


def stop_and_continue(run: Run, operator: str) -> None:
    """Longer than it takes to notice, shorter than it takes to be killed."""
    wait_until(lambda: run.signalled([operator], signal.SIGSTOP), run.story)
    process = psutil.Process(int(str(run.operators()[operator]["pid"])))
    wait_until(lambda: silent_s(run, operator) > NOTICED_S, run.story)
    assert process.status() == psutil.STATUS_STOPPED
    assert run.signalled([operator], signal.SIGCONT)


def silent_s(run: Run, operator: str) -> float:
    return float(str(run.operators().get(operator, {}).get("silent_s") or 0.0))


def given_up(run: Run) -> None:
    """All stopped at one instant; from ``hung`` on SIGCONT to each as fast as can be."""
    names, site = ONE_OF_EACH_KIND, run.site
    begun = len(site.events("supervisor"))
    wait_until(lambda: run.signalled(names, signal.SIGSTOP), run.story)
    status = run.operators()
    pids = {name: int(str(status[name]["pid"])) for name in names}
    written: dict[str, set[int]] = {name: set() for name in STORES}
    clock = SystemClock()
    deadline = clock.monotonic_ns() + round(WITHIN_S * 1e9)
    with ExitStack() as closing:
        pidfds = {name: os.pidfd_open(pid) for name, pid in pids.items()}
        for pidfd in pidfds.values():
            closing.callback(os.close, pidfd)
        while not pids.keys() <= {event["operator"] for event in since(site, begun, "spawned")}:
            assert clock.monotonic_ns() < deadline, run.story()
            # Others may hang with them: a source stopped in a broker's transaction holds its lock.
            for name in pids.keys() & {event["operator"] for event in since(site, begun, "hung")}:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfds[name], signal.SIGCONT)
            for name, times in written.items():
                times.update(modified(site, name))
    for name in names:
        check_fence(site.events("supervisor")[begun:], name, pids[name], written.get(name, set()))


def since(site: Site, begun: int, event: str) -> list[dict[str, Any]]:
    return [line for line in site.events("supervisor")[begun:] if line["event"] == event]


def modified(site: Site, name: str) -> Iterator[int]:
    """When each file of an operator's store was last written, ns."""
    for path in site.root.glob(STORES[name]):
        with suppress(FileNotFoundError):
            yield path.stat().st_mtime_ns


def check_fence(events: list[dict[str, Any]], name: str, pid: int, written: set[int]) -> None:
    """Found hanging, dead, and only then succeeded; between the two its store stands still.

    What is written there in between would be seen: the successor needs longer than a look takes
    until it writes itself.
    """
    own = [event for event in events if event.get("operator") == name]
    steps = [e for e in own if e["event"] in ("hung", "died", "spawned")]
    assert [event["event"] for event in steps] == ["hung", "died", "spawned"], own
    hung, died, spawned = steps
    assert (hung["pid"], died["why"].partition(",")[0]) == (pid, "killed by SIGKILL")
    assert spawned["pid"] != pid
    assert not Path(f"/proc/{pid}").exists()
    after, before = wall_ns(died["at"]) + 1_000_000, wall_ns(spawned["at"])
    assert [at for at in written if after < at < before] == [], name


def wall_ns(text: str) -> int:
    """A stamp of the journal; it is cut to whole milliseconds."""
    return round(datetime.fromisoformat(text).timestamp() * 1e9)
