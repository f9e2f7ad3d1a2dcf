"""When an operator is suspected to die of a record, and what that does to its restart budget."""

from __future__ import annotations

import dataclasses

import pytest

from sda_pipeline.errors import ExitCode
from sda_pipeline.runtime.in_flight import BatchAt, Culprit
from supervisor.events import Event
from supervisor.states import State
from supervisor.suspicion import NOBODY, Blame, Suspicions
from tests.unit.tree_rig import SECOND, TOPOLOGY, World

HERE, THERE = BatchAt(1, 70), BatchAt(1, 71)
RECORD = Culprit(source=0, generation=0, partition=0, offset=7)


def test_the_third_life_at_one_batch_is_suspect_and_its_death_names_the_record() -> None:
    suspicions = Suspicions()
    assert suspicions.died("correlator", HERE, 5) == Blame(1)
    assert not suspicions.suspect("correlator", 5)
    assert suspicions.died("correlator", HERE, 5) == Blame(2)
    assert suspicions.suspect("correlator", 5)
    assert not suspicions.suspect("radar", 5)
    assert suspicions.died("correlator", RECORD, 5) == Blame(3, named=True)
    assert not suspicions.suspect("correlator", 5), "the count begins anew"
    assert suspicions.died("correlator", HERE, 5) == Blame(1)


def test_a_death_without_a_name_leaves_the_suspicion() -> None:
    suspicions = Suspicions()
    assert [suspicions.died("radar", HERE, 5).deaths for _ in range(4)] == [1, 2, 3, 4]
    assert suspicions.suspect("radar", 5)


def test_a_death_with_nothing_in_flight_says_nothing() -> None:
    suspicions = Suspicions()
    suspicions.died("radar", HERE, 5)
    assert suspicions.died("radar", None, 5) is NOBODY
    assert suspicions.died("radar", HERE, 5) == Blame(2)


@pytest.mark.parametrize(("batch", "progress"), [(THERE, 5), (HERE, 6), (THERE, 6)])
def test_another_batch_or_any_progress_begins_anew(batch: BatchAt, progress: int) -> None:
    suspicions = Suspicions()
    suspicions.died("radar", HERE, 5)
    suspicions.died("radar", HERE, 5)
    assert not suspicions.suspect("radar", 6), "what it died of is behind it"
    assert suspicions.died("radar", batch, progress) == Blame(1)
    assert not suspicions.suspect("radar", progress)


# --- the restart budget --------------------------------------------------------------------------


def small_budget(deaths: int) -> World:
    operators = [dataclasses.replace(spec, budget_deaths=deaths) for spec in TOPOLOGY.operators]
    return World(dataclasses.replace(TOPOLOGY, operators=tuple(operators))).all_ready()


def die(world: World, code: int, blame: Blame) -> None:
    del world.alive["radar"]
    world.do(world.tree.died("radar", code, world.now, blame))
    world.pass_time(2 * SECOND)
    if "radar" in world.alive:
        world.ready("radar")


def test_deaths_of_a_quarantined_record_do_not_count_against_the_budget() -> None:
    world = small_budget(2)
    for _ in range(10):
        die(world, -9, Blame(1))
        die(world, -9, Blame(2))
        die(world, 1, Blame(3, named=True))
    assert world.tree.outcome is None
    assert world.tree.members["radar"].state is State.RUNNING
    assert world.tree.members["radar"].restarts == 30


def test_deaths_that_lead_to_no_record_do() -> None:
    world = small_budget(2)
    for deaths in (1, 2, 3):
        die(world, -9, Blame(deaths))
    assert world.tree.outcome is None
    die(world, -9, Blame(4))
    assert world.tree.outcome is not None
    assert world.tree.outcome.code == ExitCode.BUDGET_SPENT


def test_the_control_the_same_deaths_without_blame_spend_the_budget() -> None:
    world = small_budget(2)
    die(world, -9, NOBODY)
    die(world, -9, NOBODY)
    assert world.tree.outcome is not None


def test_a_named_record_brings_the_operator_back_at_once() -> None:
    world = small_budget(20)
    die(world, -9, Blame(1))
    die(world, -9, Blame(2))
    backoffs = len(world.events(Event.BACKOFF))
    del world.alive["radar"]
    world.do(world.tree.died("radar", 1, world.now, Blame(3, named=True)))
    assert "radar" in world.alive
    assert len(world.events(Event.BACKOFF)) == backoffs
