"""The supervisor of a schedule: the real core (tree.py, plan.py) over simulated processes.

What runner.py does with pidfds and signals is done here with fibers; no rule is restated.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from sda_pipeline.clock import ManualClock
from sda_pipeline.errors import ExitCode, SdaError
from sda_pipeline.runtime.launch import Launch, RunFlags
from sda_pipeline.topology import Topology
from supervisor import quiescence
from supervisor.events import Event
from supervisor.members import Action, Note, Rewire, Send, Spawn
from supervisor.quarantine import Quarantine
from supervisor.states import Phase, State
from supervisor.tree import Tree
from supervisor.wiring import Wiring
from tests.simulation.fibers import Killed
from tests.simulation.sim_worker import Host, SimWorker

KILLED = -signal.SIGKILL
DRAIN_WITHIN_S = 3600.0  # of simulated time: a drain that does not end is a schedule that does not
FLAGS = RunFlags(end_of_input=True)
PARENT = 1
NEVER = 1 << 62


class SupervisorHost(Host, Protocol):
    """The world, as the supervisor meets it."""

    def crashed(self, operator: str, error: BaseException) -> None:
        """An operator ended by an error of its own."""

    def rewound(self, operator: str) -> None: ...


class SimSupervisor:
    """One run of the tree. It learns of deaths and readiness when the scheduler lets it look."""

    def __init__(
        self, host: SupervisorHost, topology: Topology, clock: ManualClock, at_once: int
    ) -> None:
        self.host, self.topology, self.clock = host, topology, clock
        self.wiring = Wiring(topology)
        self.quarantine = Quarantine(topology, self.wiring, clock, lambda note: self.act([note]))
        self.tree = Tree(topology, at_once=at_once)
        self.workers: dict[str, SimWorker] = {}
        self.complete = False
        self._inbox: deque[tuple[str, str, int]] = deque()
        self._agreement = quiescence.Agreement(topology.sources)
        self._watched = quiescence.watched_words(topology.sources)
        self._looks_at = self._timer = 0
        self.act(self.tree.advance(clock.monotonic_ns()))

    @property
    def stopped(self) -> bool:
        return self.tree.phase is Phase.STOPPED

    def due(self) -> int:
        """When it wants to run next."""
        return 0 if self._inbox else min(self._timer, self._looks_at)

    def step(self) -> None:
        """Take one message, or look at the time."""
        now = self.clock.monotonic_ns()
        if self._inbox:
            self._hear(*self._inbox.popleft(), now)
        else:
            if now >= self._looks_at:
                self._looks_at = now + quiescence.APART_NS
                self._check_delivery(now)
            self.act(self.tree.tick(now))
        due = self.tree.next_due()
        self._timer = NEVER if due is None else due

    def _hear(self, what: str, name: str, code: int, now: int) -> None:
        if what == "died":
            blame = self.quarantine.died(name, PARENT, wanted=self.tree.wanted(name))
            self.act(self.tree.died(name, code, now, blame))
        elif name in self.workers and self.workers[name].launch.incarnation == code:
            self.act(self.tree.readied(name, now))

    def act(self, actions: Iterable[Action]) -> None:
        """What ``Runner._do`` does."""
        for action in actions:
            match action:
                case Spawn(name, incarnation):
                    self._spawn(name, incarnation)
                case Send(name, signum):
                    self._send(name, signum)
                case Rewire(operators):
                    assert not operators & self.workers.keys(), "a rewind waits for every death"
                    self.wiring.rewire(operators)
                case Note(event, fields):
                    self.host.told("supervisor", str(event), fields)
                    if event is Event.REWIND:
                        self.host.rewound(fields["operator"])

    def _spawn(self, name: str, incarnation: int) -> None:
        assert name not in self.workers, "a successor starts after its predecessor's death"
        self.wiring.prepare_life(name)
        inputs, outputs = self.wiring.rings_of(name)
        launch = Launch(
            name, "", PARENT, incarnation, self.wiring.board.fd, -1, inputs, outputs, FLAGS,
            self.quarantine.suspects(name),
        )  # fmt: skip
        self.workers[name] = SimWorker(self.host, launch, self.topology, self.wiring.board)

    def _send(self, name: str, signum: int) -> None:
        if name not in self.workers:
            return  # dead already, not yet known to be: a signal to it goes nowhere
        if signum == signal.SIGKILL:
            self.kill(name)
        else:
            self.workers[name].stopping = True

    def kill(self, name: str) -> None:
        """SIGKILL, wherever the process stands."""
        self.workers[name].fiber.kill()
        self.ended(name)

    def ended(self, name: str) -> None:
        """A process is gone: what its exit code says waits for the supervisor to look."""
        error = self.workers.pop(name).fiber.error
        if error is None:
            code = int(ExitCode.DONE)
        elif isinstance(error, Killed):
            code = KILLED
        else:
            code = int(error.exit_code if isinstance(error, SdaError) else ExitCode.INTERNAL)
            self.host.crashed(name, error)
        self._inbox.append(("died", name, code))

    def readied(self, worker: SimWorker) -> None:
        self._inbox.append(("ready", worker.name, worker.launch.incarnation))

    def _check_delivery(self, now: int) -> None:
        """As ``Runner._check_delivery`` of a finite run."""
        if self.tree.phase is not Phase.RUNNING:
            return
        running = all(m.state is State.RUNNING for m in self.tree.members.values())
        words = {w: self.wiring.board.get(w) for w in self._watched} if running else None
        if not self._agreement.observe(words, now) or words is None:
            return
        if quiescence.ended(words, self.topology.sources):  # else END is still being written
            self.complete = True
            self.act(self.tree.stop(now, DRAIN_WITHIN_S))
