"""Looks at a running pipeline all the time, and tells from that how long each fault was felt.

It only looks: faults and traffic are others'.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import SdaError
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.times import parse_times
from sda_pipeline.topology import Topology
from supervisor.control import ask
from tests.bench.bench_restarts import alert_possible, logged, next_output
from tests.bench.bench_tree import Status, operator
from tests.process.site import Site

LOOK_EVERY_S = 0.02
_STAMP_NS = 1_000_000  # the supervisor stamps its events in whole milliseconds


class Sample(NamedTuple):
    """One look: wall-clock ns, and what the supervisor answered."""

    at: int
    status: Status


class Death(NamedTuple):
    """An operator's process that ended, as its supervisor saw it."""

    at: int  # wall-clock ns
    operator: str


class Watcher:
    """A thread that samples the status of one site until it is closed."""

    def __init__(self, site: Site) -> None:
        self.site, self.clock = site, SystemClock()
        self.samples: list[Sample] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            try:
                found = ask(self.site.state, "status", "watch the pipeline")
            except SdaError:
                continue  # nobody answers: that is what is being measured
            self.samples.append(Sample(self.clock.wall_ns(), found))

    def close(self) -> None:
        self._over.set()
        self._thread.join()


def deaths(site: Site) -> list[Death]:
    """Every death that the supervisors of a site have noted."""
    events = [event for event in site.events("supervisor") if event["event"] == "died"]
    times = parse_times([event["at"] for event in events])[0].tolist() if events else []
    return [Death(at, event["operator"]) for at, event in zip(times, events, strict=True)]


def until_output(
    death: Death, samples: list[Sample], topology: Topology, since: int | None = None
) -> float | None:
    """Seconds from a death (or from ``since``) until its operator had put something out again.

    What is logged when the death is seen may have passed the dead one; what comes later cannot
    have. None when it did not happen while anyone looked.
    """
    later = [sample for sample in samples if sample.at >= death.at + _STAMP_NS]
    if not later:
        return None
    again = next_output(topology, death.operator, logged(later[0].status))

    def back(status: Status) -> bool:
        return bool(operator(status, death.operator)["state"] == "running" and again(status))

    return _first(back, later[1:], death.at if since is None else since)


def until_alerts(killed: int, samples: Iterable[Sample]) -> float | None:
    """Seconds from the death of a whole tree until alerts are possible again."""
    first: dict[str, int] = {}
    later = [sample for sample in samples if sample.at > killed]
    return _first(lambda status: alert_possible(status, first), later, killed)


def _first(condition: Callable[[Status], bool], samples: list[Sample], since: int) -> float | None:
    for sample in samples:
        if condition(sample.status):
            return (sample.at - since) / SECOND_NS
    return None
