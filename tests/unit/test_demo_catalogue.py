"""Which catalogue a demo runs on: the present one while it lasts, never over a user's own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sda_pipeline.astro.catalogue import configuration_hash
from sda_pipeline.cli.sim.truth import Encounter, Truth, digest, truth_path, write_truth
from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.settings import Physics
from sda_pipeline.state.store import Changes, CorrelatorStore, Meta
from supervisor.demo_catalogue import LEFT_NS, needs_accepting, present_catalogue

T0 = 1_800_000_000 * SECOND_NS
TEXT = b"elements"


def encounter(seconds: int, origin: str = "engineered") -> Encounter:
    return Encounter(
        origin=origin, sat1=1, sat2=2, alert_id="a", tca_cat_ns=0, miss_cat_m=0.0,
        tca_ns=T0 + seconds * SECOND_NS, tca="", miss_m=0.0, rel_speed_m_s=1.0,
    )  # fmt: skip


@pytest.fixture
def topology(tmp_path: Path) -> Any:
    (tmp_path / "sensors.yaml").write_bytes(b"sensors: {}")
    return SimpleNamespace(
        catalogue=tmp_path / "catalogue.tle", sensors=tmp_path / "sensors.yaml",
        state=tmp_path / "state", physics=Physics(),
    )  # fmt: skip


def make(topology: Any, text: bytes = TEXT) -> None:
    topology.catalogue.write_bytes(TEXT)
    truth = Truth(
        epoch="", epoch_ns=T0, ends_ns=T0 + 900 * SECOND_NS, seed=1, objects=2000,
        on_catalogue=False, catalogue_sha256=digest(text), offsets={},
        encounters=(encounter(900), encounter(12), encounter(1, "natural")),
    )  # fmt: skip
    write_truth(truth_path(topology.catalogue), truth)


def test_none_yet(topology: Any) -> None:
    assert present_catalogue(topology) is None


def test_it_is_kept_while_two_minutes_of_encounters_are_left(topology: Any) -> None:
    make(topology)
    present = present_catalogue(topology)
    assert present is not None
    assert present.lasts(present.ends_ns - LEFT_NS)
    assert not present.lasts(present.ends_ns - LEFT_NS + 1)
    assert not present.lasts(present.ends_ns + SECOND_NS)


def test_the_next_encounter_is_an_engineered_one_to_come(topology: Any) -> None:
    make(topology)
    present = present_catalogue(topology)
    assert present is not None
    found = [present.next_ns(T0 + seconds * SECOND_NS) for seconds in (0, 13, 901)]
    assert found == [T0 + 12 * SECOND_NS, T0 + 900 * SECOND_NS, None]


def test_a_catalogue_without_a_truth_is_somebodys_own(topology: Any) -> None:
    topology.catalogue.write_bytes(TEXT)
    with pytest.raises(InvalidConfiguration, match=r"not one of sda-sim's.*another catalogue file"):
        present_catalogue(topology)


def test_a_truth_of_another_catalogue_is_none(topology: Any) -> None:
    make(topology, b"others")
    with pytest.raises(InvalidConfiguration, match="belongs to another catalogue"):
        present_catalogue(topology)


def test_a_start_must_accept_exactly_what_the_state_does_not_know(topology: Any) -> None:
    make(topology)
    assert not needs_accepting(topology)
    directory = topology.state / "correlator"
    directory.mkdir(parents=True)
    assert not needs_accepting(topology)  # no store in it
    known = configuration_hash(TEXT, topology.sensors.read_bytes(), topology.physics)
    store = CorrelatorStore(directory)
    store.commit(Changes(meta=Meta(catalogue=known, epoch=1)), lambda: None)
    store.close()
    assert not needs_accepting(topology)
    topology.catalogue.write_bytes(b"new elements")
    assert needs_accepting(topology)
