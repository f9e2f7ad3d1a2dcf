"""Life cycles of an operator and of the whole tree, as tables. Imports nothing of ours.

A process exists in STARTING, RUNNING, DRAINING and KILLING, and in no other state. ``spawn`` is
legal only where none does: a successor starts after its predecessor's death, or this table raises.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where one operator is."""

    DOWN = "down"  # no process; starts as soon as those it waits for are running
    BACKOFF = "backoff"  # no process; starts after a delay
    STARTING = "starting"  # alive, recovering, not ready
    RUNNING = "running"  # alive and ready
    DRAINING = "draining"  # asked to finish (SIGTERM)
    KILLING = "killing"  # sent SIGKILL, its death not yet seen
    STOPPED = "stopped"  # no process, and none will come


class Change(StrEnum):
    """What happens to an operator."""

    SPAWN = "spawn"
    READY = "ready"
    DRAIN = "drain"
    KILL = "kill"
    DEATH = "death"  # the pidfd says so
    DELAY = "delay"
    HOLD = "hold"  # a rewind gathers it from its backoff
    RETIRE = "retire"


class Phase(StrEnum):
    """Where the whole tree is."""

    STARTING = "starting"
    RUNNING = "running"  # every operator has been ready once
    DRAINING = "draining"
    KILLING = "killing"
    STOPPED = "stopped"


ALIVE = frozenset({State.STARTING, State.RUNNING, State.DRAINING, State.KILLING})

# A ready byte may be in the pipe when the operator is asked to stop: it changes nothing any more.
LIFE: dict[tuple[State, Change], State] = {
    (State.DOWN, Change.SPAWN): State.STARTING,
    (State.DOWN, Change.DELAY): State.BACKOFF,
    (State.DOWN, Change.RETIRE): State.STOPPED,
    (State.BACKOFF, Change.SPAWN): State.STARTING,
    (State.BACKOFF, Change.HOLD): State.DOWN,
    (State.BACKOFF, Change.RETIRE): State.STOPPED,
    (State.STARTING, Change.READY): State.RUNNING,
    (State.STARTING, Change.DRAIN): State.DRAINING,
    (State.STARTING, Change.KILL): State.KILLING,
    (State.STARTING, Change.DEATH): State.DOWN,
    (State.RUNNING, Change.DRAIN): State.DRAINING,
    (State.RUNNING, Change.KILL): State.KILLING,
    (State.RUNNING, Change.DEATH): State.DOWN,
    (State.DRAINING, Change.READY): State.DRAINING,
    (State.DRAINING, Change.KILL): State.KILLING,
    (State.DRAINING, Change.DEATH): State.DOWN,
    (State.KILLING, Change.READY): State.KILLING,
    (State.KILLING, Change.DEATH): State.DOWN,
}

TREE: dict[Phase, frozenset[Phase]] = {
    Phase.STARTING: frozenset({Phase.RUNNING, Phase.DRAINING, Phase.KILLING}),
    Phase.RUNNING: frozenset({Phase.DRAINING, Phase.KILLING}),
    Phase.DRAINING: frozenset({Phase.KILLING, Phase.STOPPED}),
    Phase.KILLING: frozenset({Phase.STOPPED}),
    Phase.STOPPED: frozenset(),
}


class IllegalChangeError(Exception):
    """A change the table does not know: a programming error."""


def after(state: State, change: Change) -> State:
    """The state after a change; IllegalChangeError when the table has none."""
    try:
        return LIFE[state, change]
    except KeyError:
        raise IllegalChangeError(f"{change} in state {state}") from None


def next_phase(phase: Phase, wanted: Phase) -> Phase:
    """The phase after a step; IllegalChangeError when the table has none."""
    if wanted not in TREE[phase]:
        raise IllegalChangeError(f"{phase} -> {wanted}")
    return wanted


def diagram() -> str:
    """The operator's life cycle as a Mermaid state diagram, drawn from the table."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.DOWN}"]
    lines += [f"    {state} --> {target}: {change}" for (state, change), target in LIFE.items()]
    lines += [f"    {State.STOPPED} --> [*]"]
    return "\n".join(lines) + "\n"
