"""The supervisor's core under any sequence of events: its rules hold, and it can run and end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.states import Phase, State
from tests.unit.tree_rig import SECOND, TOPOLOGY, World

CODES = (-9, -15, 0, 1, 9, 9, 3)
STEP = st.tuples(
    st.sampled_from(["ready", "ready", "ready", "die", "time", "restart", "kill", "hung", "stop"]),
    st.integers(0, 63),
    st.sampled_from(CODES),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=120))
def test_any_sequence_of_events_keeps_the_rules_and_can_be_ended(
    steps: list[tuple[str, int, int]],
) -> None:
    world = World()
    for what, pick, code in steps:
        names = sorted(world.alive)
        starting = [name for name in names if not world.alive[name]]
        if world.tree.phase is Phase.STOPPED:
            break
        if what == "ready" and starting:
            world.ready(starting[pick % len(starting)])
        elif what == "die" and names:
            world.die(names[pick % len(names)], code)
        elif what == "time":
            world.pass_time(pick * SECOND // 8)
        elif what in ("restart", "kill") and world.tree.phase in (Phase.STARTING, Phase.RUNNING):
            name = TOPOLOGY.names[pick % len(TOPOLOGY.names)]
            world.do(world.tree.restart(name, kill=what == "kill", now=world.now))
        elif what == "hung":
            name = TOPOLOGY.names[pick % len(TOPOLOGY.names)]
            world.do(world.tree.hung(name, "COMMIT", world.now))
        elif what == "stop" and pick < 4:
            world.do(world.tree.stop(world.now, pick))
    if world.tree.phase in (Phase.STARTING, Phase.RUNNING):
        can_run(world)
    world.do(world.tree.stop(world.now, 0) if world.tree.phase is not Phase.STOPPED else [])
    while world.alive:
        world.die(min(world.alive), -9)
    assert world.tree.phase is Phase.STOPPED


def can_run(world: World) -> None:
    """Whatever happened: with time, deaths that were sent and readiness, everything runs again."""
    for _ in range(60):
        world.pass_time(3 * SECOND)
        for name in sorted(world.alive):
            state = world.tree.members[name].state
            if state in (State.KILLING, State.DRAINING):
                world.die(name, -9)
        world.ready(*[name for name, ready in sorted(world.alive.items()) if not ready])
    assert set(world.alive) == set(TOPOLOGY.names)
    assert world.tree.phase is Phase.RUNNING
