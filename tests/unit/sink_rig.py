"""Sink and subscriber in this process, over real rings, killed and rewound as a supervisor would.
No test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from operators import alert_sink, subscriber
from sda_pipeline.clock import ManualClock
from sda_pipeline.errors import Rewind
from sda_pipeline.records.alert import Entry
from sda_pipeline.ring.endpoints import Consumer, Producer
from sda_pipeline.ring.memory import RingFds, close_ring, create_ring
from sda_pipeline.state.alert_log import read_alerts
from sda_pipeline.state.subscriber_store import FILE_NAME, read_effects
from tests.unit.alert_rig import T0, Line

SINK_EDGE, SUBSCRIBER_EDGE = "correlator->alert-sink", "alert-sink->subscriber"
Kill = tuple[str, int]  # (failpoint, at its so manieth hit)


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Words(dict[str, int]):
    """A board of any words, all 0 at first."""

    def get(self, name: str, default: int = 0) -> int:  # type: ignore[override]
        return super().get(name, default)

    def set(self, name: str, value: int) -> None:
        self[name] = value


class FakeWorker:
    """A worker that is asked to drain from the start: ``run`` takes what is there and returns."""

    stopping = True

    def __init__(
        self, name: str, topology: Any, board: Words, clock: ManualClock,
        inputs: dict[str, Consumer], outputs: dict[str, Producer], kill: Kill | None = None,
    ) -> None:  # fmt: skip
        self.name, self.topology, self.board, self.clock = name, topology, board, clock
        self.inputs, self.outputs, self.kill = inputs, outputs, kill
        self.hits: Counter[str] = Counter()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.is_ready = False

    @property
    def only_input(self) -> Consumer:
        (consumer,) = self.inputs.values()
        return consumer

    @property
    def only_output(self) -> Producer:
        (producer,) = self.outputs.values()
        return producer

    def finished(self, drained: Callable[[], bool]) -> bool:
        return drained()

    def beat(self, step: object) -> None:
        pass

    def ready(self) -> None:
        self.is_ready = True

    def wait(self, timeout_s: float, fds: object = ()) -> None:
        self.clock.sleep(timeout_s)

    def fail(self, point: str) -> None:
        self.hits[point] += 1
        if (point, self.hits[point]) == self.kill:
            raise Killed(point)

    def event(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def said(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]


class Chain:
    """Correlator's outbox -> alert sink -> subscriber."""

    def __init__(self, root: Path, capacity: int = 64 * 1024) -> None:
        self.capacity = capacity
        self.topology = SimpleNamespace(state=root / "state", subscriber=root / "subscriber")
        self.board, self.clock = Words(), ManualClock(T0, 1)
        self.outbox: list[Entry] = []
        self.published = 0  # entries of the outbox put on the ring
        self.rewinds = 0
        self.last: FakeWorker | None = None
        self.rings: dict[str, RingFds] = {}
        for edge in (SINK_EDGE, SUBSCRIBER_EDGE):
            self.rings[edge] = create_ring(edge, capacity)

    @property
    def alerts_path(self) -> Path:
        return self.topology.state / alert_sink.FILE_NAME

    @property
    def subscriber_path(self) -> Path:
        return self.topology.subscriber / FILE_NAME

    def close(self) -> None:
        for fds in self.rings.values():
            close_ring(fds)

    def publish(self) -> None:
        """The correlator's step 6: what fits, in order."""
        producer = Producer(self.rings[SINK_EDGE])
        for entry in self.outbox[self.published :]:
            if not producer.try_publish(entry.head(), (entry.body,), entry.crc()):
                break
            self.published += 1
        producer.close()

    def resend(self) -> None:
        """The correlator restarts: it sends again what the board does not say is stored."""
        stored = self.board.get("sink_pos")
        self.published = sum(entry.position <= stored for entry in self.outbox)
        self.publish()

    def life(self, name: str, kill: Kill | None = None) -> bool:
        """One incarnation until it has drained; False when it was killed or asked for a rewind."""
        source, target = (SINK_EDGE, SUBSCRIBER_EDGE) if name == "alert-sink" else (None, None)
        inputs = {source or SUBSCRIBER_EDGE: Consumer(self.rings[source or SUBSCRIBER_EDGE])}
        outputs = {target: Producer(self.rings[target])} if target else {}
        worker = FakeWorker(name, self.topology, self.board, self.clock, inputs, outputs, kill)
        self.last = worker
        try:
            (alert_sink if name == "alert-sink" else subscriber).run(worker)  # type: ignore[arg-type]
        except Killed:
            return False
        except Rewind:
            self.rewind(name)
            return False
        finally:
            for endpoint in (*inputs.values(), *outputs.values()):
                endpoint.close()
        return True

    def rewind(self, name: str) -> None:
        """New rings upstream of the operator, words of the stopped ones zeroed, started in
        order.
        """
        self.rewinds += 1
        assert self.rewinds < 20, "it rewinds without end"
        edges = [SINK_EDGE] if name == "alert-sink" else [SUBSCRIBER_EDGE, SINK_EDGE]
        for edge in edges:
            close_ring(self.rings[edge])
            self.rings[edge] = create_ring(edge, self.capacity)
        self.board.set("sink_pos", 0)
        if name == "subscriber":
            self.board.set("sub_pos", 0)
            self.life("subscriber")
        if self.life("alert-sink"):
            self.resend()

    def settle(self) -> None:
        """Let everything run until all entries are at the subscriber."""
        for _ in range(500):
            self.publish()
            self.life("alert-sink")
            self.life("subscriber")
            if self.published == len(self.outbox) and (
                not self.outbox or self.board.get("sub_pos") >= self.outbox[-1].position
            ):
                return
        raise AssertionError("it does not settle")

    def ledger(self) -> list[Line]:
        """The subscriber's ledger without its clock."""
        return [
            Line(*(effect[key] for key in Line._fields))
            for effect in read_effects(self.subscriber_path)
        ]

    def alerts(self) -> dict[str, dict[str, Any]]:
        """The sink's last record of each alert."""
        return {record["alert_id"]: record for record in read_alerts(self.alerts_path)}


@contextmanager
def open_chain(root: Path, capacity: int = 64 * 1024) -> Iterator[Chain]:
    """A chain whose rings are closed at the end."""
    chain = Chain(root, capacity)
    try:
        yield chain
    finally:
        chain.close()
