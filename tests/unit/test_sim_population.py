"""The synthetic catalogue: its encounters are what its truth file says."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from sda_pipeline.astro.catalogue import Catalogue, parse_catalogue
from sda_pipeline.astro.encounter import schedule_pane
from sda_pipeline.astro.reference import pane_of, rtn_axes
from sda_pipeline.cli.sim.census import without_offsets
from sda_pipeline.cli.sim.default_sensors import default_registry
from sda_pipeline.cli.sim.engineering import MISS_MIX, wanted_misses
from sda_pipeline.cli.sim.population import draw_offsets, synthesize
from sda_pipeline.cli.sim.truth import Encounter, Truth, read_truth, truth_path, write_truth
from sda_pipeline.errors import InvalidConfiguration, UsageError
from sda_pipeline.settings import Physics
from tests.unit.sim_rig import ENCOUNTERS, EPOCH_NS, SECOND, world


def engineered(truth: Truth) -> list[Encounter]:
    return [e for e in truth.encounters if e.origin == "engineered"]


@cache
def catalogue_of_the_world() -> Catalogue:
    return parse_catalogue(world().elements, "tle")


def distance(truth: Truth, e: Encounter, t_ns: int) -> float:
    """Of the two true objects at one time, written from SPEC 12's formula and nothing else."""
    catalogue = catalogue_of_the_world()
    at = []
    for sat in (e.sat1, e.sat2):
        r, v = catalogue.state_at(int(catalogue.index(np.array([sat]))[0]), t_ns)
        q = rtn_axes(r[None], v[None])[0]
        at.append(r + q @ np.array(truth.offsets.get(sat, (0.0, 0.0, 0.0))))
    return float(np.linalg.norm(at[1] - at[0]))


def test_it_is_a_function_of_its_arguments() -> None:
    again = synthesize(3, EPOCH_NS, 260, sensors=default_registry(), minutes=2.0, per_minute=40.0)
    assert again == world()
    other = synthesize(4, EPOCH_NS, 260, sensors=default_registry(), minutes=2.0, per_minute=40.0)
    assert other.elements != again.elements


def test_every_engineered_encounter_is_scheduled() -> None:
    truth = world().truth
    ours = engineered(truth)
    assert len(ours) == ENCOUNTERS
    assert len({s for e in ours for s in (e.sat1, e.sat2)}) == 2 * ENCOUNTERS
    assert all(e.sat1 < e.sat2 for e in ours)
    assert max(e.miss_cat_m for e in ours) < 10_000.0
    first = min(e.tca_ns for e in ours)
    assert abs(first - (EPOCH_NS + 12 * SECOND)) < SECOND
    assert truth.ends_ns < EPOCH_NS + 133 * SECOND


def test_names_and_times_are_the_schedule_s() -> None:
    catalogue = catalogue_of_the_world()
    for e in engineered(world().truth)[::13]:
        found = schedule_pane(catalogue, pane_of(e.tca_cat_ns), Physics()).encounters
        (same,) = [s for s in found if (s.low, s.high) == (e.sat1, e.sat2)]
        assert (same.alert_id, same.tca_ns) == (e.alert_id, e.tca_cat_ns)


def test_the_true_miss_is_the_wanted_one_and_the_minimum() -> None:
    truth = world().truth
    ours = engineered(truth)
    off = [abs(e.miss_m - (e.wanted_miss_m or 0.0)) for e in ours]
    assert np.percentile(off, 50) < 5.0
    assert max(off) < 25.0
    for e in ours[::13]:
        around = range(e.tca_ns - 50_000_000, e.tca_ns + 50_000_001, 1_000_000)
        distances = {t: distance(truth, e, t) for t in around}
        nearest = min(distances, key=distances.__getitem__)
        assert abs(nearest - e.tca_ns) <= 1_000_000
        assert distances[nearest] == pytest.approx(e.miss_m, rel=1e-3, abs=0.1)


def test_misses_have_the_shares_of_the_specification() -> None:
    misses = wanted_misses(np.random.default_rng(1), 450)
    for share, low, high in MISS_MIX:
        assert ((misses >= low) & (misses < high)).sum() == round(450 * share)


def test_offsets_are_the_prior_within_two_sigma() -> None:
    sigma = Physics().leo.pos_m
    drawn = draw_offsets(np.random.default_rng(1), 20_000, sigma) / np.array(sigma)
    assert np.abs(drawn).max() <= 2.0
    assert drawn.std(axis=0) == pytest.approx(0.8796, abs=0.02)  # of a normal cut at 2 sigma
    known = np.array([*world().truth.offsets.values()])
    deep = np.array(Physics().deep.pos_m)
    assert (np.abs(known) <= 2.0 * deep).all()
    assert np.abs(known[:, 1]).max() > 695.0


def test_expected_levels_follow_the_miss() -> None:
    ours = engineered(world().truth)
    near = Counter(e.expected_level for e in ours if e.miss_m < 40.0)
    far = Counter(e.expected_level for e in ours if e.miss_m > 700.0)
    assert near["RED"] >= 0.9 * near.total()
    assert far["none"] == far.total() > 0
    assert Counter(e.expected_level for e in ours)["RED"] > 0.45 * ENCOUNTERS
    assert all(len(e.observers) == 12 and all(e.observers) for e in ours)


def test_on_the_catalogue_truth_and_elements_agree() -> None:
    truth = world(on_catalogue=True).truth
    assert truth.offsets == {}
    for e in engineered(truth):
        assert e.miss_m == pytest.approx(e.miss_cat_m, abs=0.01)
        assert abs(e.tca_ns - e.tca_cat_ns) < 20_000
        assert abs(e.miss_cat_m - (e.wanted_miss_m or 0.0)) < 25.0


def test_the_same_catalogue_seen_without_offsets() -> None:
    made = world()
    seen = without_offsets(made.truth, catalogue_of_the_world())
    assert seen.offsets == {}
    for before, after in zip(made.truth.encounters, seen.encounters, strict=True):
        assert after.alert_id == before.alert_id
        assert after.miss_m == pytest.approx(after.miss_cat_m, abs=0.01)
        assert after.expected_level is None


def test_too_few_objects_are_refused() -> None:
    with pytest.raises(UsageError, match="450 encounters need at least 1125 objects"):
        synthesize(1, EPOCH_NS, 1000, sensors=default_registry())
    with pytest.raises(UsageError, match="not between 1 and 26000"):
        synthesize(1, EPOCH_NS, 30_000, sensors=default_registry())


def test_the_truth_file_comes_back_and_knows_its_catalogue(tmp_path: Path) -> None:
    made = world()
    path = truth_path(tmp_path / "catalogue.tle")
    write_truth(path, made.truth)
    assert read_truth(path, made.elements.encode()) == made.truth
    with pytest.raises(InvalidConfiguration, match="belongs to another catalogue"):
        read_truth(path, made.elements.encode() + b"\n")
    write_truth(path, msgspec.structs.replace(made.truth, version=2))
    with pytest.raises(InvalidConfiguration, match="version 2 is unknown"):
        read_truth(path)
    path.write_bytes(b"{}")
    with pytest.raises(InvalidConfiguration, match="cannot read the truth file"):
        read_truth(path)
    path.unlink()
    with pytest.raises(InvalidConfiguration, match="--on-catalogue"):
        read_truth(path)
