"""What the benchmark takes for the next output after a kill, and for equal alerts."""

from __future__ import annotations

from typing import Any

import pytest

from sda_pipeline.topology import Topology, load_topology
from tests.bench.bench_loop import differences
from tests.bench.bench_restarts import logged, next_output, settled
from tests.process.site import ROOT

SOURCES = ("radar", "optical", "isl")


@pytest.fixture(scope="module")
def topology() -> Topology:
    return load_topology(ROOT / "topology.yaml")


def status(**changes: Any) -> dict[str, Any]:
    """A pipeline at rest: ten frames logged and applied of each source, five entries delivered."""
    applied = dict.fromkeys(SOURCES, 10) | changes.get("applied", {})
    ends = dict.fromkeys(SOURCES, 10) | changes.get("log_end", {})
    point = {"outbox_end": 5, "sink_pos": 5, "sub_pos": 5} | changes.get("checkpoint", {})
    return {
        "operators": [{"name": "radar", "kind": "radar-source", "state": "running"}],
        "sources": [
            {"name": n, "applied": applied[n], "log_end": ends[n], "lag": 0} for n in SOURCES
        ],
        "checkpoint": point,
    }


def test_a_source_has_output_when_a_later_frame_of_its_own_is_applied(topology: Topology) -> None:
    seen = next_output(topology, "radar", logged(status(log_end={"radar": 12})))
    assert not seen(status(applied={"radar": 12, "isl": 99})), (
        "logged before the kill, or another's"
    )
    assert seen(status(applied={"radar": 13}))


@pytest.mark.parametrize("name", ["normalize", "prioritize", "correlator"])
def test_what_every_frame_passes_has_output_when_any_later_one_is_applied(
    name: str, topology: Topology
) -> None:
    seen = next_output(topology, name, logged(status()))
    assert not seen(status())
    assert seen(status(applied={"isl": 11}))


def test_sinks_have_output_when_they_hold_nothing_back(topology: Topology) -> None:
    sink, subscriber = (next_output(topology, n, {}) for n in ("alert-sink", "subscriber"))
    behind = status(checkpoint={"outbox_end": 7, "sink_pos": 6})
    assert not sink(behind)
    assert not subscriber(behind)
    assert sink(status())
    assert subscriber(status())


def test_settled_means_nothing_has_piled_up() -> None:
    assert settled(status())
    assert not settled(status(log_end={"isl": 100}))


def test_alerts_differ_by_id_level_and_number() -> None:
    one = {"level": "RED", "pc": 0.5, "miss_m": 100.0}
    assert differences({"a": one}, {"a": dict(one)}) == []
    assert differences({"a": one | {"pc": 0.5 * (1 + 1e-8)}}, {"a": one}) == []
    for change in ({"level": "YELLOW"}, {"miss_m": 100.001}, {"pc": 0.5001}):
        assert len(differences({"a": one | change}, {"a": one})) == 1
    assert differences({}, {"a": one}) == ["a: only the loop has it"]
    assert differences({"a": one}, {}) == ["a: the loop lacks it"]
