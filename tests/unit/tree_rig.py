"""A tree and the processes it believes in, held against each other. Holds no test."""

from __future__ import annotations

import signal
from collections.abc import Iterable

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.topology import Topology
from supervisor import plan
from supervisor.events import Event
from supervisor.members import Action, Note, Rewire, Send, Spawn
from supervisor.states import ALIVE, Phase
from supervisor.tree import Tree
from tests.unit.topology_rig import repository_topology

TOPOLOGY = repository_topology()
SECOND = SECOND_NS


class World:
    """A tree and the processes it believes in: checks every action against what really lives."""

    def __init__(self, topology: Topology = TOPOLOGY, at_once: int = 2) -> None:
        self.tree, self.now = Tree(topology, at_once), 0
        self.alive: dict[str, bool] = {}  # name -> ready
        self.signals: list[tuple[str, signal.Signals]] = []
        self.rewires: list[frozenset[str]] = []
        self.notes: list[Note] = []
        self.rewinding: set[str] = set()
        self.waits = plan.waits_for(topology)
        self.spawned: list[str] = []
        self.do(self.tree.advance(0))

    def do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Spawn(name):
                    assert name not in self.alive, f"{name}: its predecessor lives"
                    assert name not in self.rewinding, f"{name} started with its old rings"
                    for other in self.waits[name]:
                        assert self.alive.get(other), f"{name} started before {other} is ready"
                    self.alive[name] = False
                    self.spawned.append(name)
                case Send(name, signum):
                    assert name in self.alive, f"{name}: nobody to signal"
                    self.signals.append((name, signum))
                case Rewire(operators):
                    assert not operators & self.alive.keys(), "rings renewed under a living user"
                    self.rewires.append(operators)
                    self.rewinding -= operators
                case Note() as note:
                    self.notes.append(note)
                    if note.event is Event.REWIND:
                        self.rewinding |= set(note.fields["operators"])
        for name, member in self.tree.members.items():
            assert (member.state in ALIVE) == (name in self.alive), name

    def ready(self, *names: str) -> None:
        for name in names:
            self.alive[name] = True
            self.do(self.tree.readied(name, self.now))

    def die(self, name: str, code: int) -> None:
        del self.alive[name]
        self.do(self.tree.died(name, code, self.now))

    def pass_time(self, ns: int) -> None:
        self.now += ns
        self.do(self.tree.tick(self.now))

    def all_ready(self) -> World:
        while self.tree.phase is Phase.STARTING:
            self.ready(*[name for name, ready in self.alive.items() if not ready])
        return self

    def events(self, event: Event) -> list[dict[str, object]]:
        return [note.fields for note in self.notes if note.event is event]
