"""What an operator's loop sees of a simulated process: rings, board, clock; it pauses and dies.

Everything the real worker does that is not a system call is inherited from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from operators.registry import loop_of
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
    """One incarnation, carried by ``fiber``. ``due``: when it goes on if nothing happens before."""

    def __init__(self, host: Host, launch: Launch, topology: Topology, board: Board) -> None:
        self.host, self.launch, self.topology, self.board = host, launch, topology, board
        self.clock = host.clock
        self.name = launch.operator
        self.kind = topology.kind_of(self.name)
        self.inputs: dict[str, Consumer] = {}
        self.outputs: dict[str, Producer] = {}
        self.stopping = self.leaving = False
        self.step = Step.START
        self.due = 0
        self._waits_for: Sequence[int] = ()
        self.fiber = Fiber(self._live)

    def _live(self) -> None:
        """What ``run_operator`` does; the end is told by ``fiber.error``."""
        inputs, outputs = self.launch.inputs, self.launch.outputs
        self.inputs = {edge: Consumer(RingFds(*f), self.clock) for edge, f in inputs.items()}
        self.outputs = {edge: Producer(RingFds(*f)) for edge, f in outputs.items()}
        loop_of(self.kind)(self)

    def can_go_on(self, now: int) -> bool:
        """Not waiting, or what it waits for is there, or time is over, or it is asked to stop."""
        if now >= self.due or self.stopping:
            return True
        return not Memory.signalled.isdisjoint(self._waits_for)

    def listen(self) -> None:
        pass

    def beat(self, step: Step) -> None:
        self.step = step

    def ready(self) -> None:
        self.board.set(f"{self.name}.ready", 1)
        self.host.became_ready(self)
        self.host.pass_point(self, "ready")  # others go on before it does, or it dies of it

    def wait(self, timeout_s: float, fds: Sequence[int] = (), *, step: object = None) -> None:
        self.due = self.clock.monotonic_ns() + round(timeout_s * SECOND_NS)
        self._waits_for = fds
        self.fiber.pause()
        self.due, self._waits_for = 0, ()
        Memory.signalled.difference_update(fds)

    def fail(self, point: str) -> None:
        self.host.pass_point(self, point)

    def armed(self, point: str) -> bool:
        return False

    def fail_rows(self, rows: Rows, point: str = "row") -> None:
        pass

    def event(self, event: str, **fields: Any) -> None:
        self.host.told(self.name, event, fields)
