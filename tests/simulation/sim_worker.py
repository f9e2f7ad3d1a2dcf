"""What an operator's loop sees of a simulated process: real rings, board and clock; pauses, deaths, words.

Everything the real worker does that is not a system call is inherited from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sda_pipeline.clock import ManualClock
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.rows import Rows
from sda_pipeline.ring.board import Board
from sda_pipeline.ring.endpoints import Consumer, Producer
from sda_pipeline.ring.memory import RingFds
from sda_pipeline.runtime.launch import Launch
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.topology import Topology
from sda_pipeline.vocabulary import Step
from tests.simulation.fibers import Fiber
from tests.simulation.sim_memory import Memory


class Host(Protocol):
    """The world, as a process meets it."""

    clock: ManualClock

    def pass_point(self, worker: SimWorker, point: str) -> None:
        """May interrupt or kill the calling process."""

    def became_ready(self, worker: SimWorker) -> None: ...

    def told(self, operator: str, event: str, fields: dict[str, Any]) -> None: ...


class SimWorker(Worker):
    """One incarnation. ``fiber`` carries it; it may go on when ``can_go_on``."""

    def __init__(self, host: Host, launch: Launch, topology: Topology, board: Board) -> None:
        self.host, self.launch, self.topology, self.board = host, launch, topology, board
        self.clock = host.clock
        self.name = launch.operator
        self.kind = topology.kind_of(self.name)
        self.inputs = {edge: Consumer(RingFds(*f), host.clock) for edge, f in launch.inputs.items()}
        self.outputs = {edge: Producer(RingFds(*f)) for edge, f in launch.outputs.items()}
        self.stopping = False
        self.fiber: Fiber
        self.step = Step.START
        self._waits_for: Sequence[int] = ()
        self._until = 0

    def can_go_on(self, now: int) -> bool:
        """Not waiting, or what it waits for is there, or time is over, or it is asked to stop."""
        if now >= self._until or self.stopping:
            return True
        return any(fd in Memory.signalled for fd in self._waits_for)

    @property
    def due(self) -> int:
        return self._until

    def listen(self) -> None:
        pass

    def beat(self, step: Step) -> None:
        self.step = step

    def ready(self) -> None:
        self.board.set(f"{self.name}.ready", 1)
        self.host.became_ready(self)

    def wait(self, timeout_s: float, fds: Sequence[int] = ()) -> None:
        self._until = self.clock.monotonic_ns() + round(timeout_s * SECOND_NS)
        self._waits_for = fds
        self.fiber.pause()
        self._until, self._waits_for = 0, ()
        Memory.signalled.difference_update(fds)

    def fail(self, point: str) -> None:
        self.host.pass_point(self, point)

    def fail_rows(self, rows: Rows) -> None:
        pass

    def event(self, event: str, **fields: Any) -> None:
        self.host.told(self.name, event, fields)
