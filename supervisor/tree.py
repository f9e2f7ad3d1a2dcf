"""The supervisor's core: what to do when an operator is ready, dies, hangs, or a user asks. Pure.

Facts come in with the monotonic time they were seen at, actions come out in the order they must be
done; runner.py does them. An operator's process exists or not by states.py alone.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sda_pipeline.errors import ExitCode, NotRunning, UsageError
from sda_pipeline.limits import DEATHS_BEFORE_PROBE, SECOND_NS
from sda_pipeline.runtime.launch import LEAVE
from sda_pipeline.topology import OperatorSpec, Topology
from supervisor import plan
from supervisor.events import Event
from supervisor.members import Action, Member, Note, Outcome, Rewire, Send, Spawn
from supervisor.policy import REWIND_WINDOW_S, Deaths, RestartPolicy, Rewinds, describe_exit
from supervisor.states import ALIVE, Change, Phase, State, after, next_phase
from supervisor.suspicion import NOBODY, Blame

# Exit codes by which an operator says that starting it again cannot help.
REFUSALS = frozenset({ExitCode.USAGE, ExitCode.INVALID, ExitCode.CORRUPT, ExitCode.UNREACHABLE})


@dataclass
class Tree:
    """Every operator of a topology. ``at_once`` bounds how many start together at first."""

    topology: Topology
    at_once: int
    phase: Phase = Phase.STARTING
    outcome: Outcome | None = None
    rewinds: Rewinds = field(default_factory=Rewinds)

    def __post_init__(self) -> None:
        self.members = {
            spec.name: Member(spec, Deaths(_policy(spec))) for spec in self.topology.operators
        }
        self._order = [self.members[name] for name in self.topology.start_order()]
        self._waits = plan.waits_for(self.topology)
        self._stages = plan.drain_stages(self.topology)
        self._rewinding: set[str] = set()
        self._rewound_at: dict[str, int] = {}  # when an operator last asked for a rewind
        self._finish_by: int | None = None

    def readied(self, name: str, now: int) -> list[Action]:
        """The operator says that it has recovered and listens."""
        member = self.members[name]
        member.state = after(member.state, Change.READY)
        member.ready_at = now
        seconds = (now - member.spawned_at) / SECOND_NS
        actions: list[Action] = [
            _note(Event.READY, member, incarnation=member.incarnation, seconds=round(seconds, 3))
        ]
        running = all(other.state is State.RUNNING for other in self._order)
        if self.phase is Phase.STARTING and running:
            self.phase = next_phase(self.phase, Phase.RUNNING)
            actions.append(Note(Event.RUNNING, {}))
        return actions + self.advance(now)

    def wanted(self, name: str) -> bool:
        """Whether the operator's death now would be what was asked for."""
        ending = self.phase in (Phase.DRAINING, Phase.KILLING)
        return self.members[name].asked or name in self._rewinding or ending

    def died(
        self, name: str, returncode: int, now: int, blame: Blame = NOBODY, progress: int = 0
    ) -> list[Action]:
        """The operator's process is gone; only now may a successor exist.

        ``progress``: any number that changes with the work that operators of its name have done.
        """
        member = self.members[name]
        progressed, member.progress = progress != member.progress, progress
        wanted, asked, hung_in = self.wanted(name), member.asked, member.hung_in
        ready_for = now - member.ready_at if member.ready_at is not None else 0
        member.state = after(member.state, Change.DEATH)
        member.ready_at = member.finish_by = None
        member.asked, member.hung_in = False, ""
        member.last_exit = describe_exit(returncode) + (f", hung in {hung_in}" if hung_in else "")
        actions: list[Action] = [
            _note(Event.DIED, member, why=member.last_exit, asked=wanted, exit=returncode)
        ]
        if returncode in REFUSALS and self.phase is not Phase.KILLING:
            actions += self._refuse(member, returncode)
        elif self.phase in (Phase.DRAINING, Phase.KILLING) or name in self._rewinding:
            pass
        elif returncode == ExitCode.REWIND:
            actions += self._rewind(member, now)
        elif asked or blame.named:
            member.not_before = now
            member.deaths.forgive(max(0, blame.deaths - 1))
        else:
            actions += self._delay(member, ready_for, now, blame, progressed=progressed)
        return actions + self.advance(now)

    def hung(self, name: str, step: str, now: int) -> list[Action]:
        """The operator gave no sign of life for too long: kill it, its death does the rest."""
        member = self.members[name]
        if member.state not in ALIVE or member.state is State.KILLING:
            return []
        member.hung_in = step
        return [_note(Event.HUNG, member, step=step), *self._kill([member]), *self.advance(now)]

    def restart(self, name: str, *, kill: bool, now: int) -> list[Action]:
        """A user asks for a new incarnation: gracefully, or by SIGKILL."""
        if name not in self.members:
            known = ", ".join(self.members)
            raise UsageError(f"restart {name}", "there is no such operator", f"there are {known}")
        if self.phase not in (Phase.STARTING, Phase.RUNNING):
            raise NotRunning(f"restart {name}", f"the pipeline is {self.phase}", "start it again")
        member = self.members[name]
        actions: list[Action] = [_note(Event.RESTART_ASKED, member, kill=kill)]
        member.not_before = now
        if member.state in ALIVE:
            member.asked = True
            if kill:
                actions += self._kill([member])
            elif member.state in (State.STARTING, State.RUNNING):
                member.finish_by = now + _ns(self.topology.supervision.drain_within_s)
                actions += self._drain([member], LEAVE)
        return actions + self.advance(now)

    def stop(self, now: int, within_s: float) -> list[Action]:
        """Drain in flow order and kill what is left after ``within_s``; at once when that is 0."""
        actions: list[Action] = []
        if self.phase in (Phase.STARTING, Phase.RUNNING):
            self.phase = next_phase(self.phase, Phase.DRAINING)
            actions = [Note(Event.DRAINING, {"within_s": within_s})]
        if self.phase is Phase.DRAINING:
            finish_by = now + _ns(within_s)
            self._finish_by = min(finish_by, self._finish_by or finish_by)
        return actions + self.tick(now)

    def tick(self, now: int) -> list[Action]:
        """Time has passed: deadlines and delays that are due."""
        actions: list[Action] = []
        if self.phase is Phase.DRAINING and self._finish_by is not None and now >= self._finish_by:
            left = [member.spec.name for member in self._order if member.state in ALIVE]
            actions.append(Note(Event.KILLING, {"operators": left}))
            self.phase = next_phase(self.phase, Phase.KILLING)
        for member in self._order:
            if member.finish_by is not None and now >= member.finish_by:
                actions += [_note(Event.OVERDUE, member), *self._kill([member])]
        return actions + self.advance(now)

    def next_due(self) -> int | None:
        """When ``tick`` has something to do, if it is known."""
        times = [m.not_before for m in self._order if m.state is State.BACKOFF and self._free(m)]
        times += [m.finish_by for m in self._order if m.finish_by is not None]
        if self.phase is Phase.DRAINING and self._finish_by is not None:
            times.append(self._finish_by)
        return min(times, default=None)

    def advance(self, now: int) -> list[Action]:
        """Whatever the states allow now: spawn on the way up, the next stage on the way down."""
        if self.phase in (Phase.STARTING, Phase.RUNNING):
            return self._bring_up(now)
        if self.phase is Phase.STOPPED:
            return []
        return self._take_down()

    def _bring_up(self, now: int) -> list[Action]:
        actions: list[Action] = []
        gathered = [self.members[name] for name in self._rewinding]
        if gathered and all(member.state is State.DOWN for member in gathered):
            actions.append(Rewire(frozenset(self._rewinding)))
            actions.append(Note(Event.REWOUND, {"operators": sorted(self._rewinding)}))
            self._rewinding.clear()
        for member in self._order:
            starting = sum(other.state is State.STARTING for other in self._order)
            if self.phase is Phase.STARTING and starting >= self.at_once:
                break
            if now >= member.not_before and self._free(member):
                member.state = after(member.state, Change.SPAWN)
                member.incarnation += 1
                member.spawned_at = now
                actions.append(Spawn(member.spec.name, member.incarnation))
        return actions

    def _free(self, member: Member) -> bool:
        """Nothing but time keeps the operator from being started."""
        return (
            member.state in (State.DOWN, State.BACKOFF)
            and member.spec.name not in self._rewinding
            and all(self.members[o].state is State.RUNNING for o in self._waits[member.spec.name])
        )

    def _take_down(self) -> list[Action]:
        actions: list[Action] = []
        stages = self._stages if self.phase is Phase.DRAINING else (self.topology.names,)
        for stage in stages:
            members = [self.members[name] for name in stage]
            actions += self._kill(members) if self.phase is Phase.KILLING else self._drain(members)
            for member in members:
                if member.state in (State.DOWN, State.BACKOFF):
                    member.state = after(member.state, Change.RETIRE)
            if any(member.state is not State.STOPPED for member in members):
                return actions
        self.phase = next_phase(self.phase, Phase.STOPPED)
        return actions

    def _drain(
        self, members: Iterable[Member], signum: signal.Signals = signal.SIGTERM
    ) -> list[Action]:
        found = [m for m in members if m.state in (State.STARTING, State.RUNNING)]
        for member in found:
            member.state = after(member.state, Change.DRAIN)
        return [Send(member.spec.name, signum) for member in found]

    def _kill(self, members: Iterable[Member]) -> list[Action]:
        found = [m for m in members if m.state in ALIVE and m.state is not State.KILLING]
        for member in found:
            member.state = after(member.state, Change.KILL)
            member.finish_by = None
        return [Send(member.spec.name, signal.SIGKILL) for member in found]

    def _delay(
        self, member: Member, ready_for: int, now: int, blame: Blame, *, progressed: bool
    ) -> list[Action]:
        spared = min(blame.deaths, DEATHS_BEFORE_PROBE)  # the next one may name a record
        delay = member.deaths.note(now, ready_for, spared, progressed=progressed)
        if delay is None:
            why = f"{member.deaths.why}, the last: {member.last_exit}"
            actions: list[Action] = [_note(Event.BUDGET_SPENT, member, why=why)]
            return actions + self._give_up(Outcome(ExitCode.BUDGET_SPENT, member.spec.name, why))
        member.state = after(member.state, Change.DELAY)
        member.not_before = now + _ns(delay)
        return [_note(Event.BACKOFF, member, seconds=delay)]

    def _refuse(self, member: Member, returncode: int) -> list[Action]:
        outcome = Outcome(ExitCode(returncode), member.spec.name, member.last_exit)
        return [_note(Event.REFUSED, member, exit=returncode), *self._give_up(outcome)]

    def _rewind(self, member: Member, now: int) -> list[Action]:
        name = member.spec.name
        stopped = plan.rewound_with(self.topology, name)
        last = self._rewound_at.get(name)
        if last is not None and now - last < _ns(REWIND_WINDOW_S):
            # Again: the damage may be in a ring it writes, which only its reader's rewind renews.
            stopped |= plan.rewound_with_readers(self.topology, name)
        self._rewound_at[name] = now
        allowed = self.rewinds.note(now)
        actions: list[Action] = [_note(Event.REWIND, member, operators=sorted(stopped))]
        if not allowed:
            why = f"{self.rewinds.recent} rewinds within a minute, the last asked for by {name}"
            return actions + self._give_up(Outcome(ExitCode.BUDGET_SPENT, name, why))
        self._rewinding |= stopped
        for other in (self.members[o] for o in stopped):
            other.not_before = now
            if other.state is State.BACKOFF:
                other.state = after(other.state, Change.HOLD)
        return actions + self._kill(self.members[o] for o in sorted(stopped))

    def _give_up(self, outcome: Outcome) -> list[Action]:
        """Stop the tree at once; the first reason stands."""
        self.outcome = self.outcome or outcome
        if self.phase is not Phase.DRAINING:
            self.phase = next_phase(self.phase, Phase.KILLING)
        return []


def _policy(spec: OperatorSpec) -> RestartPolicy:
    return RestartPolicy(
        spec.backoff_s, spec.backoff_max_s, spec.budget_deaths, spec.budget_window_s
    )


def _note(event: Event, member: Member, **fields: Any) -> Note:
    return Note(event, {"operator": member.spec.name, **fields})


def _ns(seconds: float) -> int:
    return round(seconds * SECOND_NS)
