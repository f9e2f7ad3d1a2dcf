"""One schedule: processes, disk, broker and time under a scheduler that one seed decides.

Chance picks who runs, for how long, where it is interrupted, how batches are cut, and what the
fault plan strikes. Not the checks of its outcome.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from operators import source_open
from sda_pipeline.clock import ManualClock
from sda_pipeline.errors import Rewind, SdaError
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.topology import SUPERVISOR
from supervisor.policy import REWIND_WINDOW_S
from tests.simulation import damage, losses, outcome
from tests.simulation.dice import Dice
from tests.simulation.fault_plan import REWINDING, Fault, FaultPlan, Loss, Point, What
from tests.simulation.fibers import Killed
from tests.simulation.seams import BOUNDS
from tests.simulation.sim_broker import Broker
from tests.simulation.sim_catalogue import T0_NS
from tests.simulation.sim_disk import Disk
from tests.simulation.sim_memory import Bytes, Memory, ZeroingWords
from tests.simulation.sim_supervisor import SimSupervisor
from tests.simulation.sim_topology import draw_topology
from tests.simulation.sim_worker import SimWorker
from tests.simulation.story import Story, TableReducer

DECISIONS_MAX = 30_000  # a sound schedule takes some hundreds
WALL_NS = T0_NS + 100 * SECOND_NS
QUIET_NS = round((REWIND_WINDOW_S + 1.0) * SECOND_NS)
LADDER = {Loss.CORRELATOR, Loss.SINK}  # losses that lead to a new epoch


class World:
    """One schedule. ``faults`` says what is wrong with it, nothing when all is well."""

    def __init__(
        self,
        seed: int,
        story: Story,
        plan: FaultPlan,
        reference: dict[str, str] | None = None,
        *,
        trace: bool = False,
    ) -> None:
        self.seed, self.story, self.plan, self.reference = seed, story, plan, reference
        self.dice = dice = Dice(seed)
        self.trace: list[str] | None = [] if trace else None
        self.clock = ManualClock(WALL_NS, SECOND_NS)
        self.faults: list[str] = []
        self.passes: Counter[Point] = Counter()
        self.struck: list[Fault] = []
        self.rewinds = self.decisions = 0
        self.damaged: set[str] = set()  # edges in whose ring a bit was flipped
        self.excused: set[str] = set()  # operators whose store was taken away
        self.spoiled: set[str] = set()  # names of snapshots damaged on purpose
        self.said: Counter[str] = Counter()  # log events by name
        self.recovered: Counter[str] = Counter()  # the correlator's store, by rung of the ladder
        self.running: SimWorker | None = None
        self._next: What | None = None  # what befalls the tree when the running operator pauses
        self._flip = False
        Memory.reset()
        Memory.on_write = self._on_ring_write
        ZeroingWords.interrupt = self._interrupt_store
        self.disk = Disk(self, dice)
        cut_max = dice.pick((3, 5, 8, 12))
        self.broker = Broker(story, dice, cut_max, lambda s: self._running().wait(s))
        source_open.open_consumer = self.broker.open_consumer  # type: ignore[assignment]
        TableReducer.story = story
        for module, name, values in BOUNDS:
            setattr(module, name, dice.pick(values))
        self.topology = draw_topology(self.disk.root, cut_max, dice)
        self._interrupts = dice.pick((0.0, 0.02, 0.1, 0.3))
        self._tick_ns = dice.pick((1_000_000, 5_000_000, 20_000_000))
        names = (*self.topology.names, SUPERVISOR)
        self._lazy = {name: dice.pick((0.0, 0.0, 0.5, 0.95)) for name in names}
        self.supervisor = self._new_tree()

    def run(self) -> list[str]:
        """Run to the end; what is wrong with the outcome."""
        try:
            self.live()
            if not self.faults:
                self.faults += outcome.final_faults(self)
        except Exception as error:  # noqa: BLE001 - whoever runs schedules tells the seed with it
            self.faults.append(f"{error!r}\n{outcome.traceback_of(error)}")
        finally:
            self._kill_all()
            self.disk.forget()
        return self.faults

    def live(self) -> None:
        """Until everything is delivered and everybody has stopped, or something is wrong."""
        while not self.supervisor.stopped and not self.faults:
            if self.decisions == DECISIONS_MAX:
                self.faults.append("it never finished")
            self._decide()
            if self._next is not None:
                self._befall(self._next)
            if self._flip:
                self._flip = not damage.flip(self)
        self.faults += self.broker.faults

    def _decide(self) -> None:
        """Let one of those who can go on do so, for as long as chance lets it."""
        self.decisions += 1
        now, dice, supervisor = self.clock.monotonic_ns(), self.dice, self.supervisor
        ready: list[SimWorker | None] = [w for w in supervisor.workers.values() if w.can_go_on(now)]
        if supervisor.due() <= now:
            ready.append(None)
        if not ready:
            due = [supervisor.due(), *(w.due for w in supervisor.workers.values())]
            self.clock.advance(min(due) - now)
            return
        chosen = dice.pick(ready)
        lazy = self._lazy[chosen.name if chosen else SUPERVISOR]
        if lazy and dice.chance(lazy):
            chosen = dice.pick(ready)
        self.clock.advance(dice.below(self._tick_ns))
        if chosen is None:
            supervisor.step()
        else:
            self._resume(chosen)

    def _resume(self, worker: SimWorker) -> None:
        self.running = worker
        worker.fiber.resume()
        self.running = None
        if worker.fiber.done:
            if worker.fiber.error is not None:
                self.faults += outcome.faults_at_death(self, worker.name)
            self.supervisor.ended(worker.name)

    # --- faults ---------------------------------------------------------------------------------

    def pass_point(self, worker: SimWorker, point: str) -> None:
        """The running operator stands between two of its steps: it may die or be interrupted."""
        if self.dies_at(point):
            raise Killed
        if self._interrupts and self.dice.chance(self._interrupts):
            worker.fiber.pause()

    def dies_at(self, point: str) -> bool:
        """Whether the running operator dies here; other faults of this moment happen meanwhile."""
        if self.running is None:
            return False
        name = self.running.name
        self.passes[name, point] += 1
        fault = self.plan.strikes((name, point), self.passes[name, point])
        if self.trace is not None:
            self.note(f"{name:10} {point}{f'  <-- {fault.what}' if fault else ''}")
        if fault is None:
            return False
        if fault.what in REWINDING and any(before.what in REWINDING for before in self.struck):
            self.clock.advance(QUIET_NS)
        self.struck.append(fault)
        if fault.what in (What.OTHER, What.PAIR):
            self._kill_another(name)
        if fault.what in (What.TREE, What.POWER, What.LOSS):
            self._next = fault.what
        self._flip = self._flip or fault.what is What.DAMAGE
        return fault.what not in (What.OTHER, What.DAMAGE)

    def _kill_another(self, name: str) -> None:
        others = [other for other in self.supervisor.workers if other != name]
        if others:
            other = self.dice.pick(others)
            self.note(f"{other} is killed as well")
            self.supervisor.kill(other)
            self.faults += outcome.faults_at_death(self, other)

    def _on_ring_write(self, region: Bytes, at: slice, data: bytes) -> None:
        """A kill while bytes are copied into a ring leaves any part of them."""
        if self.dies_at("ring_write"):
            done = self.dice.below(len(data) + 1)
            bytearray.__setitem__(region, slice(at.start, at.start + done), bytes(data[:done]))
            raise Killed

    def _interrupt_store(self) -> None:
        """Between the two stores of a word written the wrong way; only a control does."""
        worker = self.running
        if worker is None:
            return
        if self.dice.chance(0.001):
            raise Killed
        if self._interrupts and self.dice.chance(self._interrupts):
            worker.fiber.pause()

    def _befall(self, what: What) -> None:
        """The end of the tree, by itself or by power, or of a store and its owner."""
        self._next = None
        if what is What.LOSS:
            losses.lose_store(self)
        else:
            self.kill_tree()
        if what is What.POWER:
            self.disk.power_loss()
        if self.supervisor is None:
            self.note("start again")
            self.supervisor = self._new_tree()

    def kill_tree(self) -> None:
        """Everything at one instant; it is started again when what befell it is over."""
        self._flip = False
        self._kill_all()
        for name in self.topology.names:
            self.faults += outcome.faults_at_death(self, name)
        self.supervisor = None

    def _new_tree(self) -> SimSupervisor:
        at_once = self.dice.pick((2, 9))
        return SimSupervisor(self, self.topology, self.clock, at_once)

    def _kill_all(self) -> None:
        for worker in [*self.supervisor.workers.values()]:
            worker.fiber.kill()
        self.supervisor.workers.clear()

    # --- what processes tell -----------------------------------------------------------------

    def _running(self) -> SimWorker:
        assert self.running is not None
        return self.running

    def became_ready(self, worker: SimWorker) -> None:
        self.supervisor.readied(worker)

    def crashed(self, operator: str, error: BaseException) -> None:
        if self.excused and type(error) is SdaError:
            return  # it looked at a store that was taken away; its restart looks again
        if not isinstance(error, Rewind):
            self.faults.append(f"{operator} failed by itself: {type(error).__name__}: {error}")
            self.note(outcome.traceback_of(error))

    def rewound(self, operator: str) -> None:
        self.rewinds += 1
        if not self.damaged and not self.excused:
            self.faults.append(f"{operator} asked for a rewind, though nothing was damaged")

    def told(self, operator: str, event: str, fields: dict[str, Any]) -> None:
        self.said[event] += 1
        if operator == "correlator" and event == "recovered":
            self.recovered[str(fields["path"])] += 1
        if event == "epoch_raised" and not self.excused & LADDER:
            self.faults.append(f"a new epoch was begun though no store was lost: {fields['why']}")
        if self.trace is not None:
            self.note(f"{operator:10} says {event} {fields}")

    def note(self, line: str) -> None:
        if self.trace is not None:
            ms = (self.clock.monotonic_ns() - SECOND_NS) / 1e6
            self.trace.append(f"{ms:10.1f} {line}")
