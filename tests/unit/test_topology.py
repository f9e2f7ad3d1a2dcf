"""topology.yaml: the repository's own is valid and says the defaults; every fault has its place."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.settings import EventTime, Physics
from sda_pipeline.topology import (
    OperatorSpec,
    Supervision,
    Topology,
    from_resolved_json,
    load_topology,
    sources_moved,
    to_resolved_json,
)
from sda_pipeline.topology_parse import parse_topology
from sda_pipeline.topology_yaml import load_mapping
from tests.unit.topology_rig import FILE, ROOT, changed, repository_topology


def faults_of(text: str) -> tuple[str, ...]:
    with pytest.raises(InvalidConfiguration) as caught:
        parse_topology(text.encode(), Path("t.yaml"))
    assert str(caught.value).startswith("cannot load the topology t.yaml: ")
    assert "\n" not in str(caught.value)
    return caught.value.faults


def test_the_repository_file_states_the_defaults() -> None:
    topology = repository_topology()
    assert topology.physics == Physics()
    assert topology.event_time == EventTime()
    assert topology.supervision == Supervision()
    for field in ("snapshot_every_s", "disk_reserve_bytes", "log_retention_s", "log_bytes_max"):
        default = next(f.default for f in dataclasses.fields(Topology) if f.name == field)
        assert getattr(topology, field) == default, field
    assert topology.operator("radar") == OperatorSpec("radar", "radar-source", "sda.obs.radar")


def test_names_order_and_paths() -> None:
    topology = repository_topology()
    assert topology.sources == ("radar", "optical", "isl")
    assert topology.start_order() == (
        "subscriber", "alert-sink", "dlq-sink", "correlator", "replicator", "prioritize",
        "normalize", "radar", "optical", "isl",
    )  # fmt: skip
    assert topology.state == ROOT / "run" / "state"
    assert topology.broker == f"embedded:{ROOT / 'run' / 'broker'}"
    assert [edge.name for edge in topology.edges][-3:] == [
        "radar->dlq-sink", "optical->dlq-sink", "isl->dlq-sink"
    ]  # fmt: skip


def test_resolved_json_is_the_same_topology() -> None:
    topology = changed(("watch_km: off ", "watch_km: 4.5 "), ("idle_after: 2 ", "idle_after: off "))
    assert topology.physics.watch_km == 4.5
    assert topology.event_time.idle_after_s is None
    assert from_resolved_json(to_resolved_json(topology)) == topology


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'{"pipeline": 3}'])
def test_damaged_resolved_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidConfiguration, match="cannot read the resolved topology"):
        from_resolved_json(data)


def test_numbers_mean_what_is_written() -> None:
    # YAML 1.1 reads 1e-4 as text and off as a boolean; neither is what the user wrote.
    topology = changed(("red_pc: 1e-4", "red_pc: 3E-5"), ("idle_after: 2 ", "idle_after: false "))
    assert topology.physics.red_pc == 3e-5
    assert topology.event_time.idle_after_s is None
    assert changed(("capacity: 16 MiB", "capacity: 16777216")) == changed()


WRONG = [
    ("pipeline: sda ", "pipeline: a b ", "pipeline: 'a b' does not match"),
    ("state: run/state ", "stat: run/state ", "stat: is not known here; did you mean state"),
    ("  path: run/subscriber", "  path: run/state", "must not be the state directory"),
    ("embedded:run/broker", "kafka:/a:9092", "broker: 'kafka:/a:9092' is not known"),
    ("broker_partitions: 1 ", "broker_partitions: 1.5 ", "broker_partitions: 1.5 is not a"),
    ("catalogue.tle", "catalogue.doc", "the suffix '.doc' names no catalogue format"),
    ("red_pc: 1e-4", "red_pc: 1e-8", "yellow_pc: 1e-07 must be below red_pc, 1e-08"),
    ("red_pc: 1e-4", "red_pc: .nan", "red_pc: '.nan' is not a number"),
    ("watch_km: off", "watch_km: 6", "watch_km: 6 is not within 0 and 5"),
    ("[176, 695, 168]", "[176, 695]", "leo.pos_m: must be a list of 3 positive numbers"),
    (
        "    radar: 0.1",
        "    radr: 0.1",
        "max_lateness_s.radr: is not known here; did you mean radar",
    ),
    ("lateness_s: 5 ", "lateness_s: 2 ", "clock_ahead_max_s must be below event_time.allowed"),
    ("disk_reserve: 512 MiB", "disk_reserve: half", "disk_reserve: 'half' is not a size"),
    ("alert_s: 5 ", "alert_s: 61 ", "heartbeat_alert_s: must be below heartbeat_kill_s"),
    ("name: radar\n", "name: Radar\n", "operators[0].name: 'Radar' does not match"),
    ("name: radar\n", "name: supervisor\n", "is the name of the supervisor's own log"),
    ("radar-source", "radio-source", "did you mean radar-source"),
    ("topic: sda.obs.radar", "topic: sda.obs.isl", "sda.obs.isl is already in line"),
    ("name: normalize ", "name: correlator ", "there is no operator 'normalize'"),
    ("inputs: [normalize]", "inputs: [radar]", "a prioritize reads normalize, not 'radar'"),
    ("inputs: [radar, optical, isl]", "inputs: [radar, isl]", "optical must be among the inputs"),
    ("inputs: [normalize]", "inputs: [normalize, normalize]", "names an operator twice"),
    ("  - name: replicator ", "  - name: spare ", "the operator replicator is missing"),
    ("budget_deaths: 20", "budget_deaths: 0", "budget_deaths: 0 is not within 1 and 1e+06"),
    ("capacity: 16 MiB", "capacity: 1 MiB", "four of its largest frames"),
    ("policy: block", "policy: drop", "policy: 'drop' is not one of block"),
    ("radar->normalize:", "radio->normalize:", "radio->normalize: no operator has such an input"),
    ("checkpoint:", "state: x\ncheckpoint:", "is given twice, first in line "),
    ("embedded:run/broker", "kafka://a b", "broker: it is not a list of hosts; write kafka://HOST"),
]


@pytest.mark.parametrize(("old", "new", "fault"), WRONG, ids=[new for _, new, _ in WRONG])
def test_a_wrong_value_is_named_with_its_place(old: str, new: str, fault: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        changed((old, new))
    found = [each for each in caught.value.faults if fault in each]
    assert found, caught.value.faults
    assert found[0].startswith("topology.yaml:")


def test_a_fault_says_line_and_column_of_the_value() -> None:
    text = "pipeline: a\nphysics:\n  leo: {pos_m: [1, 2, 3], vel: 3}\n  hbr_m:   many\n"
    faults = faults_of(text)
    assert "t.yaml:3:27: physics.leo.vel: is not known here; did you mean vel_m_s" in faults
    assert "t.yaml:4:12: physics.hbr_m: 'many' is not a number" in faults


def test_all_faults_are_reported_at_once_in_the_order_of_the_file() -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        changed(*((old, new) for old, new, _ in WRONG[:6]))
    lines = [int(fault.split(":")[1]) for fault in caught.value.faults]
    assert len(lines) >= 6
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    "text", ["", "3", "[a]", "a: b: c", "\tx", "a: &a [*a]", "? [x]\n: 1", "a: " + "[" * 5000]
)
def test_what_is_no_topology_is_refused_with_one_line(text: str) -> None:
    assert faults_of(text)


@given(st.text())
def test_no_text_raises_anything_but_the_refusal(text: str) -> None:
    with pytest.raises(InvalidConfiguration):
        parse_topology(text.encode("utf-8", "surrogatepass"), FILE)


def test_missing_file_is_one_line() -> None:
    with pytest.raises(InvalidConfiguration, match="cannot read the topology file /nowhere"):
        load_topology(Path("/nowhere/topology.yaml"))


def test_sources_may_only_be_added_at_the_end() -> None:
    before = repository_topology()
    radar, optical, isl, *rest = before.operators

    def of(*operators: OperatorSpec) -> Topology:
        return dataclasses.replace(before, operators=(*operators, *rest))

    extra = OperatorSpec("radar-2", "radar-source", "more")
    assert not sources_moved(before, before)
    assert not sources_moved(before, of(radar, optical, isl, extra))
    assert "source 1 was optical" in sources_moved(before, of(radar, isl, optical))
    assert "source 2 was isl in this state directory and is now gone" in sources_moved(
        before, of(radar, optical)
    )


def test_mapping_reader_refuses_doubles_and_reads_exponents() -> None:
    assert load_mapping(b"a: {b: 1e-4, c: 2}", "s.yaml") == {"a": {"b": 1e-4, "c": 2}}
    with pytest.raises(InvalidConfiguration, match=r"s\.yaml:2:1: a is given twice"):
        load_mapping(b"a: 1\na: 2", "s.yaml")
    with pytest.raises(InvalidConfiguration, match="must be a mapping"):
        load_mapping(b"- 1", "s.yaml")
    with pytest.raises(InvalidConfiguration, match="contains itself"):
        load_mapping(b"a: &x [*x]", "s.yaml")
