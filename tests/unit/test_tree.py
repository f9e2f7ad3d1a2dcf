"""The supervisor's core, decision by decision. Any sequence of events: test_tree_model.py."""

from __future__ import annotations

import dataclasses
import signal

import pytest

from sda_pipeline.errors import ExitCode, NotRunning, UsageError
from sda_pipeline.runtime.launch import LEAVE
from supervisor import plan
from supervisor.events import Event
from supervisor.states import Phase, State
from tests.unit.tree_rig import SECOND, TOPOLOGY, World


def test_start_order_and_bound_on_how_many_start_together() -> None:
    world = World(at_once=2)
    assert world.spawned == ["subscriber", "dlq-sink"]
    world.ready("dlq-sink")
    assert world.spawned[2:] == ["prioritize"]
    world.ready("subscriber")
    assert world.spawned[3:] == ["alert-sink"]
    world.ready("prioritize", "alert-sink", "correlator")
    assert "radar" not in world.spawned  # normalize is not ready
    world.ready("normalize", "replicator")
    assert world.spawned[-2:] == ["radar", "optical"]
    assert world.all_ready().tree.phase is Phase.RUNNING


def test_a_death_is_followed_by_one_successor_after_the_delay() -> None:
    world = World().all_ready()
    world.die("correlator", -9)
    assert world.tree.members["correlator"].state is State.BACKOFF
    due = world.tree.next_due()
    assert due == world.now + SECOND // 20
    world.pass_time(SECOND // 20 - 1)
    assert "correlator" not in world.alive
    world.pass_time(1)
    assert "correlator" in world.alive
    assert world.tree.members["correlator"].restarts == 1
    assert world.events(Event.DIED)[0]["why"] == "killed by SIGKILL"


def test_exit_0_without_being_asked_is_a_death() -> None:
    world = World().all_ready()
    world.die("radar", 0)
    assert world.tree.members["radar"].state is State.BACKOFF


def test_a_source_waits_for_the_correlator_it_reads() -> None:
    world = World().all_ready()
    world.die("correlator", -9)
    world.die("radar", -9)
    world.pass_time(SECOND)
    assert "radar" not in world.alive
    world.ready("correlator")
    assert "radar" in world.alive


def test_a_spent_budget_stops_the_tree() -> None:
    operators = [dataclasses.replace(spec, budget_deaths=3) for spec in TOPOLOGY.operators]
    world = World(dataclasses.replace(TOPOLOGY, operators=tuple(operators))).all_ready()
    for _ in range(3):
        world.pass_time(3 * SECOND)
        world.die("normalize", 1)
    outcome = world.tree.outcome
    assert outcome is not None
    assert (outcome.code, outcome.operator) == (ExitCode.BUDGET_SPENT, "normalize")
    assert outcome.why == "3 deaths within 60 s, the last: exit code 1"
    assert world.tree.phase is Phase.KILLING
    assert {name for name, signum in world.signals} == set(TOPOLOGY.names) - {"normalize"}
    for name in list(world.alive):
        world.die(name, -9)
    assert world.tree.phase is Phase.STOPPED


@pytest.mark.parametrize("code", [3, 7, 8])
def test_a_refusal_stops_the_tree_at_once(code: int) -> None:
    world = World()
    world.die("subscriber", code)
    assert world.tree.outcome is not None
    assert world.tree.outcome.code == code
    world.die("dlq-sink", -9)
    assert world.tree.phase is Phase.STOPPED


def test_a_rewind_waits_for_every_death_then_renews_then_starts_in_order() -> None:
    world = World().all_ready()
    upstream = plan.rewound_with(TOPOLOGY, "correlator")
    world.die("correlator", ExitCode.REWIND)
    assert {name for name, _ in world.signals} == upstream - {"correlator"}
    for name in sorted(upstream - {"correlator"}):
        assert world.rewires == []
        world.die(name, -9)
    assert world.rewires == [upstream]
    assert {"correlator", "prioritize", "normalize"} <= world.alive.keys()
    assert not {"radar", "optical", "isl"} & world.alive.keys()
    world.ready("prioritize", "normalize", "correlator")
    assert {"radar", "optical", "isl"} <= world.alive.keys()
    assert world.tree.rewinds.count == 1
    assert world.tree.members["radar"].deaths.recent == 0  # these deaths were asked for


def test_a_rewind_gathers_one_that_waits_in_its_backoff() -> None:
    world = World().all_ready()
    world.die("radar", -9)
    world.die("correlator", ExitCode.REWIND)
    world.pass_time(10 * SECOND)
    assert "radar" not in world.alive


def test_a_second_rewind_meets_the_first() -> None:
    world = World().all_ready()
    world.die("correlator", ExitCode.REWIND)
    world.die("dlq-sink", ExitCode.REWIND)
    for name in ("radar", "optical", "isl", "prioritize", "normalize"):
        world.die(name, -9)
    assert world.rewires == [plan.rewound_with(TOPOLOGY, "correlator") | {"dlq-sink"}]


def test_the_same_operator_again_takes_its_readers_with_it() -> None:
    world = World().all_ready()
    for expected in (
        plan.rewound_with(TOPOLOGY, "normalize"),
        plan.rewound_with(TOPOLOGY, "prioritize"),
    ):
        world.die("normalize", ExitCode.REWIND)
        for name in sorted(expected - {"normalize"}):
            world.die(name, -9)
        assert world.rewires[-1] == expected
        world.ready("normalize", *(["prioritize"] if "prioritize" in expected else []))
        world.ready("radar", "optical", "isl")


def test_a_fourth_rewind_within_a_minute_stops_the_tree() -> None:
    world = World().all_ready()
    for _ in range(3):
        world.die("replicator", ExitCode.REWIND)
        world.ready("replicator")
    world.die("replicator", ExitCode.REWIND)
    assert world.tree.outcome is not None
    assert world.tree.outcome.code is ExitCode.BUDGET_SPENT
    assert "4 rewinds within a minute" in world.tree.outcome.why


def test_a_hung_operator_is_killed_and_comes_back() -> None:
    world = World().all_ready()
    world.do(world.tree.hung("correlator", "COMMIT", world.now))
    assert world.signals == [("correlator", signal.SIGKILL)]
    world.do(world.tree.hung("correlator", "COMMIT", world.now))
    assert len(world.signals) == 1
    world.die("correlator", -9)
    assert world.tree.members["correlator"].last_exit == "killed by SIGKILL, hung in COMMIT"
    world.pass_time(SECOND)
    assert "correlator" in world.alive


def test_restart_on_request_costs_no_budget_and_no_delay() -> None:
    world = World().all_ready()
    for kill, signum, code in ((False, LEAVE, 0), (True, signal.SIGKILL, -9)):
        world.do(world.tree.restart("correlator", kill=kill, now=world.now))
        assert world.signals[-1] == ("correlator", signum)
        world.die("correlator", code)
        assert "correlator" in world.alive
        world.ready("correlator")
    assert world.tree.members["correlator"].deaths.recent == 0


def test_a_graceful_restart_that_takes_too_long_becomes_a_kill() -> None:
    world = World().all_ready()
    world.do(world.tree.restart("correlator", kill=False, now=world.now))
    world.pass_time(30 * SECOND)
    assert world.signals == [("correlator", LEAVE), ("correlator", signal.SIGKILL)]


def test_restart_refuses_what_it_cannot_do() -> None:
    world = World().all_ready()
    with pytest.raises(UsageError, match="no such operator"):
        world.tree.restart("corelator", kill=False, now=0)
    world.do(world.tree.stop(world.now, 30))
    with pytest.raises(NotRunning):
        world.tree.restart("correlator", kill=False, now=0)


def test_draining_asks_stage_by_stage() -> None:
    world = World().all_ready()
    world.do(world.tree.stop(world.now, 30))
    for stage in plan.drain_stages(TOPOLOGY):
        asked = [name for name, signum in world.signals if signum is signal.SIGTERM]
        assert set(asked[-len(stage) :]) == set(stage)
        for name in stage:
            world.die(name, 0)
    assert world.tree.phase is Phase.STOPPED
    assert world.tree.outcome is None


def test_draining_kills_what_is_left_at_the_deadline() -> None:
    world = World().all_ready()
    world.do(world.tree.stop(world.now, 30))
    world.pass_time(30 * SECOND)
    assert world.tree.phase is Phase.KILLING
    assert {name for name, signum in world.signals if signum is signal.SIGKILL} == set(
        TOPOLOGY.names
    )


def test_a_stop_while_starting_starts_nothing_more() -> None:
    world = World()
    world.do(world.tree.stop(world.now, 30))
    world.ready("subscriber")
    world.die("dlq-sink", 0)
    world.die("subscriber", 0)
    assert world.tree.phase is Phase.STOPPED
    assert world.spawned == ["subscriber", "dlq-sink"]
