"""Five hundred schedules of the simulation, what they reach, and that a seed says it all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sda_pipeline.state.recovery import Rung
from sda_pipeline.vocabulary import FAILPOINTS
from tests.simulation.campaign import Summary, calm, told, world_of
from tests.simulation.fault_plan import RECOVERY, What
from tests.simulation.seams import SEAMS, simulated
from tests.simulation.sim_supervisor import SimSupervisor
from tests.simulation.story import STORIES, story

SEEDS, PARTS = 500, 5
SEEN = Summary()  # what the parts before have seen


@pytest.fixture(autouse=True)
def _simulated() -> Iterator[None]:
    with simulated():
        yield


@pytest.mark.parametrize("part", range(PARTS))
def test_schedules(part: int) -> None:
    for seed in range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS):
        faults = SEEN.run(seed)
        assert faults == [], told(seed, faults)


def test_they_reach_every_class_of_fault_every_rung_and_nearly_every_point() -> None:
    if SEEN.schedules < SEEDS:
        pytest.skip("runs after all parts")
    assert SEEN.struck.keys() == {str(what) for what in What}
    assert SEEN.recovered.keys() == {str(rung) for rung in Rung} - {Rung.REMOTE}  # tests/s3
    assert SEEN.rewinds > 0
    possible = {".".join(point) for number in range(STORIES) for point in calm(number).passes}
    possible |= {".".join(point) for point in RECOVERY}
    missed = possible - SEEN.points.keys()
    assert len(missed) <= len(possible) // 20, f"never struck: {sorted(missed)}"


def test_every_failpoint_of_the_operators_is_a_point_of_the_simulation() -> None:
    passed = {point for number in range(STORIES) for point in calm(number).passes}
    world = world_of(0)
    kinds = {name: world.topology.kind_of(name) for name in world.topology.names}
    world.run()
    for name, kind in kinds.items():
        points = (
            FAILPOINTS.get(kind)
            or FAILPOINTS["source" if kind.endswith("-source") else "stateless"]
        )
        assert {(name, point) for point in points} <= passed | {*RECOVERY}, name


def test_a_story_holds_what_the_promises_speak_of() -> None:
    for number in range(STORIES):
        told_of = story(number)
        assert len(calm(number).finals) >= 2
        assert len(told_of.rejected()) >= 4
        assert any(m.discarded for t in told_of.topics.values() for p in t for m in p)


@pytest.mark.parametrize("seed", [1, 42, 77])
def test_a_seed_replays_exactly(seed: int) -> None:
    traces = []
    for _ in range(2):
        world = world_of(seed, trace=True)
        world.run()
        traces.append([_without_paths(line, str(world.disk.root)) for line in world.trace or []])
    assert traces[0] == traces[1]


def test_a_seed_replays_exactly_in_another_process() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seed", "42", "--trace"]
    outputs = []
    for salt in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": salt}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        outputs.append([line for line in done.stdout.splitlines() if "simulation-" not in line])
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 100


def test_a_failing_seed_tells_itself_its_faults_and_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SimSupervisor, "_check_delivery", lambda *_: None)  # it never stops
    monkeypatch.setattr("tests.simulation.world.DECISIONS_MAX", 2_000)
    faults = world_of(5).run()
    assert "it never finished" in faults
    text = told(5, faults)
    assert "seed 5 failed" in text
    assert "--seed 5 --trace" in text
    assert "not again" not in text


def test_what_breaks_the_simulation_itself_is_told_with_its_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(*_: object) -> None:
        raise AssertionError("no schedule goes on")

    monkeypatch.setattr(SimSupervisor, "_check_delivery", breaks)
    summary = Summary()
    summary.run(5)
    assert list(summary.failed) == [5]
    assert "no schedule goes on" in summary.failed[5][0]
    assert "in breaks" in told(5, summary.failed[5])


def test_what_is_doubled_is_put_back() -> None:
    doubles = [getattr(module, name) for module, name, _ in SEAMS]
    assert all(found is double for found, (_, _, double) in zip(doubles, SEAMS, strict=True))
    with simulated():
        pass  # nested: the outer one still holds
    assert [getattr(module, name) for module, name, _ in SEAMS] == doubles


def _without_paths(line: str, root: str) -> str:
    return line.replace(root, "DISK")
