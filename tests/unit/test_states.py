"""The life-cycle tables: every state and change is decided, and the tables mean what they say."""

from __future__ import annotations

import itertools

import pytest

from supervisor.states import (
    ALIVE,
    LIFE,
    TREE,
    Change,
    IllegalChangeError,
    Phase,
    State,
    after,
    diagram,
    next_phase,
)


@pytest.mark.parametrize(("state", "change"), [*itertools.product(State, Change)])
def test_every_state_and_change(state: State, change: Change) -> None:
    if (state, change) in LIFE:
        assert after(state, change) is LIFE[state, change]
    else:
        with pytest.raises(IllegalChangeError):
            after(state, change)


@pytest.mark.parametrize("state", State)
def test_a_process_is_born_only_where_there_is_none_and_dies_only_where_there_is_one(
    state: State,
) -> None:
    assert ((state, Change.DEATH) in LIFE) == (state in ALIVE)
    assert ((state, Change.SPAWN) in LIFE) == (state in (State.DOWN, State.BACKOFF))
    for change in Change:
        target = LIFE.get((state, change))
        if target is not None and (state in ALIVE) != (target in ALIVE):
            assert change in (Change.SPAWN, Change.DEATH)


def test_nothing_leaves_stopped_and_everything_reaches_it() -> None:
    assert not [change for state, change in LIFE if state is State.STOPPED]
    reached, size = {State.STOPPED}, 0
    while len(reached) != size:
        size = len(reached)
        reached |= {state for (state, _), target in LIFE.items() if target in reached}
    assert reached == set(State)


@pytest.mark.parametrize(("phase", "wanted"), [*itertools.product(Phase, Phase)])
def test_every_phase(phase: Phase, wanted: Phase) -> None:
    if wanted in TREE[phase]:
        assert next_phase(phase, wanted) is wanted
    else:
        with pytest.raises(IllegalChangeError):
            next_phase(phase, wanted)


def test_the_diagram_has_every_line_of_the_table() -> None:
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert len(lines) == len(LIFE) + 3
    assert "    running --> draining: drain" in lines
