"""What a demo reads of the pipeline it watches: the subscriber's store, the status, the counts.

Reads only; the pipeline does not know that it is watched.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec

from sda_pipeline.clock import Clock
from sda_pipeline.errors import SdaError, Unreachable
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.frames import Counts
from sda_pipeline.records.times import parse_times
from sda_pipeline.runtime.audit_store import Position
from sda_pipeline.state.recovery import CORRELATOR
from sda_pipeline.state.store import CorrelatorStore
from sda_pipeline.state.subscriber_store import FILE_NAME, read_actions, read_news
from sda_pipeline.topology import Topology
from supervisor.control import ask
from supervisor.demo_news import Alerts, Line
from supervisor.demo_view import Facts

RATE_OVER_NS = 5 * SECOND_NS  # rates are means over about so long


class Feed:
    """One pipeline, watched from outside."""

    def __init__(self, topology: Topology, clock: Clock) -> None:
        self._topology, self._clock = topology, clock
        self._ledger = topology.subscriber / FILE_NAME
        self.alerts = Alerts()
        self._read = 0
        for action in read_actions(self._ledger):
            self.alerts.remember(action)
            self._read += 1
        self.facts = Facts(operators=len(topology.operators))
        self._samples: deque[tuple[int, int, int]] = deque()  # monotonic ns, read, applied

    def news(self) -> list[Line]:
        """The effects since the last call, in order."""
        try:
            found = read_news(self._ledger, self._read)
        except Unreachable:
            return []  # busy; the next look finds it
        self._read += len(found)
        return [self.alerts.take(action, body) for action, body in found]

    def look(self, supervisor: int) -> Facts:
        """The pipeline as it is now; what does not answer keeps its last value.

        ``supervisor`` is the pid whose pipeline is meant: another one's is no answer.
        """
        with suppress(SdaError):
            found = ask(self._topology.state, "status", "watch the pipeline")
            if found["supervisor_pid"] == supervisor:
                self.facts = with_status(self.facts, found)
        with suppress(SdaError, OSError):
            self._count()
        return self.facts

    def _count(self) -> None:
        directory = self._topology.state / CORRELATOR
        if not directory.exists():
            return
        store = CorrelatorStore(directory, readonly=True)
        try:
            data = store.positions().values()
        finally:
            store.close()
        positions = [msgspec.msgpack.decode(each, type=Position) for each in data]
        counts = [Counts(*position.counts) for position in positions]
        read, applied = sum(c.read for c in counts), sum(p.applied for p in positions)
        now = self._clock.monotonic_ns()
        while len(self._samples) > 1 and now - self._samples[0][0] > RATE_OVER_NS:
            self._samples.popleft()
        self._samples.append((now, read, applied))
        since, read_then, applied_then = self._samples[0]
        seconds = max((now - since) / SECOND_NS, 1e-3)
        self.facts = replace(
            self.facts, read=read, applied=applied, late=sum(c.late for c in counts),
            rejected=sum(c.rejected for c in counts), read_per_s=(read - read_then) / seconds,
            applied_per_s=(applied - applied_then) / seconds,
        )  # fmt: skip


def with_status(facts: Facts, found: dict[str, Any]) -> Facts:
    """The facts that an answer of ``status`` holds."""
    operators, sources = found["operators"], found["sources"]
    lags = [source["lag"] for source in sources]
    stamps = [source["watermark"] for source in sources]
    watermark = None if None in stamps else int(min(parse_times(stamps)[0]))
    return replace(
        facts,
        state=found["supervisor"]["state"],
        ready=sum(operator["state"] == "running" for operator in operators),
        operators=len(operators),
        restarts=sum(operator["restarts"] for operator in operators),
        lag=None if None in lags else sum(lags),
        watermark_ns=watermark,
    )
