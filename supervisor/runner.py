"""The supervisor's event loop: pidfds, readiness pipes, control socket, signals, timers.

It performs what the core (tree.py) decides and knows no rule itself. One thread, and it is the main
one: children die with the thread that made them.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import traceback
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sda_pipeline.clock import Clock
from sda_pipeline.errors import ExitCode, SdaError
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.runtime.launch import Launch, RunFlags
from sda_pipeline.topology import SUPERVISOR, Topology
from supervisor import claim, health, quiescence
from supervisor.console import Say, line_of
from supervisor.control import ControlServer, unknown_verb
from supervisor.events import Event
from supervisor.journal import Journal, stamp
from supervisor.logtail import last_error, tail
from supervisor.members import Action, Note, Outcome, Rewire, Send, Spawn
from supervisor.policy import DRAIN_PATIENT_S
from supervisor.process import Child, Command, operator_command, spawn
from supervisor.quarantine import Quarantine
from supervisor.relayed import Relayed
from supervisor.states import Phase, State
from supervisor.status import status
from supervisor.tree import Tree
from supervisor.wakeup import StopSignals
from supervisor.wiring import Wiring

HEALTH_EVERY_S = 1.0
LOG_LINES_SHOWN = 5


@dataclass(frozen=True)
class Options:
    """How this run ends."""

    flags: RunFlags = field(default=RunFlags())
    for_s: float | None = None  # of running, then drain


class Runner:
    """One run of one topology; ``run`` returns when every process is gone."""

    def __init__(
        self, topology: Topology, options: Options, clock: Clock, say: Say,
        command: Command = operator_command,
    ) -> None:  # fmt: skip
        self.topology, self.options, self.clock = topology, options, clock
        self._say, self._command = say, command
        self._width = max(map(len, topology.names))
        self.tree = Tree(topology, at_once=max(2, os.cpu_count() or 2))
        self._children: dict[str, Child] = {}
        self._log_offsets: dict[str, int] = {}
        self._watch = health.Watch(topology.supervision)
        self._stop_at: int | None = None
        self._signals_seen: set[signal.Signals] = set()
        self._agreement = quiescence.Agreement(topology.sources)
        self._watched = quiescence.watched_words(topology.sources)

    def run(self, lock: int) -> None:
        """Start, supervise, stop. SdaError when the tree had to be stopped.

        ``lock`` is the locked descriptor of the state directory; every child inherits it.
        """
        self._lock = lock
        started = self.clock.monotonic_ns()
        self._health_at = self._idle_at = started
        with contextlib.ExitStack() as ending:
            log = self._log_of(SUPERVISOR)
            self.journal = ending.enter_context(contextlib.closing(Journal(log, self.clock)))
            self.journal.note(Event.STARTED, pid=os.getpid(), flags=self.options.flags)
            ending.callback(self._sum_up, started)
            self.wiring = ending.enter_context(contextlib.closing(Wiring(self.topology)))
            self.quarantine = Quarantine(self.topology, self.wiring, self.clock, self._note)
            self._selector = ending.enter_context(selectors.DefaultSelector())
            state = self.topology.state
            control = ControlServer(state, self._selector, self.clock, self._control)
            ending.enter_context(contextlib.closing(control))
            signals = StopSignals(self._selector, self._on_signal)
            ending.enter_context(contextlib.closing(signals))
            ending.callback(self._kill_rest)
            try:
                self._loop()
            except BaseException as error:
                self.journal.note(Event.CRASHED, error=str(error), trace=traceback.format_exc())
                raise
        if self.tree.outcome is not None:
            raise self._failure(self.tree.outcome)

    def _loop(self) -> None:
        self._do(self.tree.advance(self.clock.monotonic_ns()))
        while self.tree.phase is not Phase.STOPPED:
            for key, _ in self._selector.select(self._patience()):
                key.data()
            self._timers()

    # --- doing what the core decides ---------------------------------------------------------

    def _do(self, actions: Iterable[Action]) -> None:
        """Perform actions in order; what they lead to comes after them."""
        waiting = deque(actions)
        while waiting:
            match waiting.popleft():
                case Spawn(name, incarnation):
                    waiting.extend(self._spawn(name, incarnation))
                case Send(name, signum):
                    self._children[name].send(signum)
                case Rewire(operators):
                    assert not operators & self._children.keys(), "a rewind waits for every death"
                    self.wiring.rewire(operators)
                case Note() as note:
                    self._note(note)

    def _spawn(self, name: str, incarnation: int) -> list[Action]:
        assert name not in self._children, "a successor starts after its predecessor's death"
        self.wiring.prepare_life(name)
        inputs, outputs = self.wiring.rings_of(name)
        launch = Launch(
            operator=name,
            topology=str(self.topology.state / "topology.json"),
            parent=os.getpid(),
            incarnation=incarnation,
            board=self.wiring.board.fd,
            ready=-1,
            inputs=inputs,
            outputs=outputs,
            flags=self.options.flags,
            suspect=self.quarantine.suspects(name),
        )
        try:
            child = spawn(self._command, launch, (self._lock,), self._log_of(name))
        except OSError as error:
            self._note(Note(Event.SPAWN_FAILED, {"operator": name, "why": str(error)}))
            return self.tree.died(name, ExitCode.INTERNAL, self.clock.monotonic_ns())
        self._children[name] = child
        self._log_offsets[name] = child.log_offset
        self._selector.register(child.pidfd, selectors.EVENT_READ, lambda: self._on_death(child))
        self._selector.register(child.ready_fd, selectors.EVENT_READ, lambda: self._on_ready(child))
        self.journal.note(Event.SPAWNED, operator=name, incarnation=incarnation, pid=child.pid)
        return []

    def _note(self, note: Note) -> None:
        fields = dict(note.fields)
        child = self._children.get(fields.get("operator", ""))
        if child is not None:
            fields["pid"] = child.pid
        self.journal.note(note.event, **fields)
        line = line_of(replace(note, fields=fields), self._width)
        if line is not None:
            self._say(line)
        if note.event is Event.RUNNING and self.options.for_s is not None:
            self._stop_at = self.clock.monotonic_ns() + round(self.options.for_s * SECOND_NS)

    # --- what happens ------------------------------------------------------------------------

    def _on_ready(self, child: Child) -> None:
        if self._children.get(child.name) is child:
            self._selector.unregister(child.ready_fd)  # one byte, or its end at death
            if child.is_ready():
                self._do(self.tree.readied(child.name, self.clock.monotonic_ns()))

    def _on_death(self, child: Child) -> None:
        if child.ready_fd in self._selector.get_map():
            self._selector.unregister(child.ready_fd)
        self._selector.unregister(child.pidfd)
        returncode = child.reap()
        child.close()
        del self._children[child.name]
        wanted = self.tree.wanted(child.name)
        blame = self.quarantine.died(child.name, child.pid, wanted=wanted)
        progress = self.wiring.progress(child.name)
        now = self.clock.monotonic_ns()
        self._do(self.tree.died(child.name, returncode, now, blame, progress))

    def _on_signal(self, number: signal.Signals) -> None:
        """The first of a kind drains, the second kills what is left."""
        again = number in self._signals_seen
        self._signals_seen.add(number)
        self.journal.note(Event.SIGNAL, signal=number.name)
        self._stop(0.0 if again else self.topology.supervision.drain_within_s)

    def _stop(self, within_s: float) -> None:
        self._do(self.tree.stop(self.clock.monotonic_ns(), within_s))

    def _control(self, request: dict[str, Any]) -> dict[str, Any]:
        """One verb of the control socket; the list is closed."""
        now = self.clock.monotonic_ns()
        match request.get("verb"):
            case "ping":
                return {}
            case "status":
                pids = {name: child.pid for name, child in self._children.items()}
                return status(self.tree, self.wiring, pids, os.getpid(), now)
            case "board":
                return {"words": self.wiring.board.snapshot()}
            case "stop":
                self._stop(0.0 if request.get("now") else self.topology.supervision.drain_within_s)
                return {}
            case "drain":
                self._stop(DRAIN_PATIENT_S)
                return {}
            case "restart":
                name = str(request.get("operator"))
                before = self.tree.members[name].incarnation if name in self.tree.members else 0
                self._do(self.tree.restart(name, kill=bool(request.get("kill")), now=now))
                return {"incarnation": before}
            case verb:
                raise unknown_verb(verb)

    # --- time --------------------------------------------------------------------------------

    def _patience(self) -> float:
        """Seconds until the next timer is due."""
        due = [self._health_at, self._idle_at, self.tree.next_due(), self._stop_at]
        soonest = min(at for at in due if at is not None)
        return max(0.0, (soonest - self.clock.monotonic_ns()) / SECOND_NS)

    def _timers(self) -> None:
        now = self.clock.monotonic_ns()
        if now >= self._health_at:
            alert_s = self.topology.supervision.heartbeat_alert_s
            self._health_at = now + round(min(HEALTH_EVERY_S, alert_s / 4) * SECOND_NS)
            self._check_health(now)
        if now >= self._idle_at:
            self._idle_at = now + (quiescence.APART_NS if self.options.flags.finite else SECOND_NS)
            self._check_delivery(now)
        if self._stop_at is not None and now >= self._stop_at:
            self._stop_at = None
            self._stop(self.topology.supervision.drain_within_s)
        self._do(self.tree.tick(now))

    def _check_health(self, now: int) -> None:
        spawned = {name: self.tree.members[name].spawned_at for name in self._children}
        for name, step, silent, verdict in self._watch.look(self.wiring.board, spawned, now):
            if verdict is health.Verdict.HUNG:
                self._do(self.tree.hung(name, step, now))
            else:
                fields = {"operator": name, "step": step, "seconds": silent / SECOND_NS}
                self._note(Note(Event.SLOW, fields))

    def _check_delivery(self, now: int) -> None:
        """Stop a finite run when all it took in is delivered (SPEC 8)."""
        if self.tree.phase is not Phase.RUNNING:
            return
        running = all(m.state is State.RUNNING for m in self.tree.members.values())
        words = {word: self.wiring.board.get(word) for word in self._watched} if running else None
        if not self._agreement.observe(words, now) or words is None:
            return
        if quiescence.ended(words, self.topology.sources):
            content = stamp(self.clock.wall_ns()) + "\n"
            claim.mark(self.topology.state, claim.COMPLETE, content)
            self._note(Note(Event.COMPLETE, {}))
            self._stop(self.topology.supervision.drain_within_s)
        elif self.options.flags.until_idle:
            self._stop(self.topology.supervision.drain_within_s)

    # --- the end -----------------------------------------------------------------------------

    def _kill_rest(self) -> None:
        """Kill and reap whatever an exception left behind; nothing in the ordinary case."""
        for child in self._children.values():
            child.send(signal.SIGKILL)
        for child in self._children.values():
            child.reap()
            child.close()
        self._children.clear()

    def _sum_up(self, started: int) -> None:
        seconds = (self.clock.monotonic_ns() - started) / SECOND_NS
        restarts = sum(member.restarts for member in self.tree.members.values())
        rewinds = self.tree.rewinds.count
        fields = {"seconds": round(seconds, 3), "restarts": restarts, "rewinds": rewinds}
        self.journal.note(Event.STOPPED, **fields)
        self._say(f"stopped after {seconds:.1f} s; {restarts} restarts, {rewinds} rewinds")

    def _failure(self, outcome: Outcome) -> SdaError:
        """The operator's own words when it refused; else why, and the last lines of its log."""
        path, offset = self._log_of(outcome.operator), self._log_offsets.get(outcome.operator, 0)
        own = last_error(path, offset)
        if outcome.code is not ExitCode.BUDGET_SPENT and own is not None:
            return Relayed(own, outcome.code)
        text = f"cannot keep {outcome.operator} running: {outcome.why}; see {path}"
        return Relayed(text, outcome.code, tail(path, LOG_LINES_SHOWN, offset))

    def _log_of(self, name: str) -> Path:
        return self.topology.state / "logs" / f"{name}.jsonl"
