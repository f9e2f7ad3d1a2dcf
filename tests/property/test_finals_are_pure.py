"""Final alerts are a pure function of the applied rows (promise P3); every emission is legal.

The core is fed the same partitions in random cuts, interleavings and evaluation times, with
crashes; its finals must not differ by a bit, and must agree with the slow reference. Each rule of
the core is broken once on purpose in test_finals_controls.py.
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sda_pipeline.settings import Physics
from tests.property.correlator_rig import Plan, World, make_world, run
from tests.property.emission_rules import Rules
from tests.property.scene_rig import scene
from tests.reference.agreement import disagreements
from tests.reference.slow_correlator import finals, sort_out

SEEDS = st.integers(0, 2**32 - 1)
WORLDS = st.builds(make_world, seed=SEEDS, rows=st.integers(3, 200), partitions=st.integers(1, 3))
PLANS = st.builds(
    Plan,
    cut=st.sampled_from([0.02, 0.2, 0.6]),
    evaluate=st.sampled_from([0.05, 0.4, 1.0]),
    crash=st.sampled_from([0.0, 0.04, 0.15]),
    lost=st.sampled_from([0.0, 0.3]),
)
RUNS = st.lists(st.tuples(SEEDS, PLANS), min_size=2, max_size=3)
# The narrow bands put most downgrades inside the margin of 3 x Pc.
NARROW = Physics(red_pc=3e-4, yellow_pc=1e-4)
PHYSICS = st.sampled_from([Physics(), Physics(watch_km=5.0), NARROW])
QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)


def check_purity(world: World, runs: list[tuple[int, Plan]], physics: Physics) -> None:
    """Every run leaves the same finals and counts, and the reference's."""
    at = scene()
    slow = finals(world.accepted, at.encounters, at.catalogue, physics)
    sorted_rows = sort_out(world.accepted, at.encounters)
    first = None
    for seed, plan in runs:
        outcome = run(world, seed, plan, physics)
        first = first or outcome.finals
        assert outcome.finals == first
        assert outcome.records.keys() == slow.keys()
        for name, record in outcome.records.items():
            assert disagreements(record, slow[name]) == []
        counts = outcome.counts
        assert counts["late"] == world.late
        assert counts["applied"] == sorted_rows.applied
        assert counts["duplicate"] == sorted_rows.duplicate
        assert counts["unpaired"] == sorted_rows.unpaired
        assert counts["read"] == sum(
            counts[name] for name in ("applied", "duplicate", "unpaired", "late")
        )


def check_legality(world: World, seed: int, plan: Plan, physics: Physics) -> Rules:
    """One run, every committed step watched."""
    rules = Rules(physics)
    run(world, seed, plan, physics, rules)
    return rules


@settings(QUIET, max_examples=40)
@given(world=WORLDS, runs=RUNS, physics=PHYSICS)
def test_finals_depend_on_the_applied_rows_only(
    world: World, runs: list[tuple[int, Plan]], physics: Physics
) -> None:
    check_purity(world, runs, physics)


@settings(QUIET, max_examples=40)
@given(world=WORLDS, seed=SEEDS, plan=PLANS, physics=PHYSICS)
def test_every_emission_is_legal_and_none_is_missing(
    world: World, seed: int, plan: Plan, physics: Physics
) -> None:
    check_legality(world, seed, plan, physics)


def test_worlds_are_rich_enough() -> None:
    """What the properties speak of does happen: or they would hold for want of occasion."""
    seen: dict[str, int] = {}
    crashes = 0
    for seed in range(8):
        world = make_world(seed, 150, 2)
        rules = Rules(Physics())
        outcome = run(world, seed, Plan(cut=0.6), Physics(), rules)
        crashes += outcome.crashes
        for kind, count in rules.seen.items():
            seen[kind] = seen.get(kind, 0) + count
        for name in ("late", "duplicate", "unpaired"):
            seen[name] = seen.get(name, 0) + outcome.counts[name]
    kinds = {"raised", "lowered", "final same", "late", "duplicate", "unpaired"}
    assert kinds <= {kind for kind, count in seen.items() if count >= 3}, seen
    assert {"final raised", "final lowered"} & seen.keys(), seen
    assert crashes >= 8
