"""The sensor registry: the shipped file, the defaults, and every fault at once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.sensors import parse_sensors
from sda_pipeline.settings import ISL, OPTICAL, RADAR

SHIPPED = Path(__file__).parents[2] / "sensors.yaml"
RADAR_ENTRY = {
    "kind": "radar", "lat": 60, "lon": 20.5, "alt_m": 100, "azimuth_unc": 0.01,
    "elevation_unc": 0.02, "range_unc": 0.03, "range_rate_unc": 0.0004,
}  # fmt: skip
OPTICAL_ENTRY = {
    "kind": "optical", "lat": -30, "lon": 300, "alt_m": 2000, "ra_unc": 0.001,
    "declination_unc": 0.002,
}  # fmt: skip
ISL_ENTRY = {"kind": "isl", "pos_unc": 0.03, "vel_unc": 0.0001}


def faults_of(mapping: object) -> tuple[str, ...]:
    with pytest.raises(InvalidConfiguration) as caught:
        parse_sensors(mapping)
    assert str(caught.value).startswith("cannot read the sensors: ")
    return caught.value.faults


def fault_of(entry: dict[str, Any]) -> str:
    (fault,) = faults_of({"sensors": {"X": entry}})
    return fault


def test_shipped_file_covers_the_world() -> None:
    registry = parse_sensors(yaml.safe_load(SHIPPED.read_text()))
    assert 25 <= len(registry) <= 40
    assert all(len(registry.of_kind(kind)) >= 5 for kind in (RADAR, OPTICAL, ISL))
    assert np.isnan(registry.column("lat")[registry.of_kind(ISL)]).all()
    radars = registry.of_kind(RADAR)
    lat, lon = registry.column("lat")[radars], registry.column("lon")[radars]
    assert lat.min() < -30
    assert lat.max() > 60
    assert {int(x // 90) for x in lon} == {-2, -1, 0, 1}
    for name in ("RAD-001", "OPT-001", "ISL-001"):
        assert registry.ids[registry.index(name)] == name


def test_columns_defaults_and_order() -> None:
    own = {**ISL_ENTRY, "time_sigma_s": 0, "floors": {"pos_floor_m": 2, "vel_floor_m_s": 0.01}}
    entries = {"Z": RADAR_ENTRY, "A": OPTICAL_ENTRY, "L": own}
    registry = parse_sensors({"sensors": entries})
    assert registry.ids == ["Z", "A", "L"]
    assert [registry.index(name) for name in ("Z", "A", "L", "z")] == [0, 1, 2, -1]
    assert registry.indices(["L", "?", "Z"]).tolist() == [2, -1, 0]
    assert registry.kinds.tolist() == [RADAR, OPTICAL, ISL]
    assert registry.column("lon")[:2].tolist() == [20.5, 300.0]
    assert registry.column("time_sigma_s").tolist() == [0.001, 0.001, 0.0]
    assert registry.column("angle_floor_deg").tolist() == [0.001] * 3
    assert registry.column("range_floor_m")[0] == 5.0
    assert registry.column("rate_floor_m_s")[0] == 0.05
    assert registry.column("pos_floor_m").tolist() == [1.0, 1.0, 2.0]
    assert registry.column("vel_floor_m_s").tolist() == [0.001, 0.001, 0.01]
    radar, optical, link = registry.sensors
    assert (radar.azimuth_unc, radar.range_rate_unc) == (0.01, 0.0004)
    assert math.isnan(radar.ra_unc)
    assert math.isnan(link.lat)
    assert math.isnan(optical.range_unc)


@pytest.mark.parametrize("mapping", [None, [], {}, {"sensors": None}, {"sensors": {}}, {"x": 1}])
def test_no_sensors(mapping: object) -> None:
    assert faults_of(mapping) == ("there is no non-empty mapping 'sensors'",)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"kind": "sonar"}, "sensor X: kind 'sonar' is not one of radar, optical, isl"),
        ({"kind": None}, "sensor X: kind None is not one of radar, optical, isl"),
        ({"lat": 90.5}, "sensor X: lat 90.5 is not in [-90, 90]"),
        ({"lon": -181}, "sensor X: lon -181 is not in [-180, 360]"),
        ({"alt_m": 20_001}, "sensor X: alt_m 20001 is not in [-1000, 20000]"),
        ({"lat": "60"}, "sensor X: lat '60' is no number"),
        ({"lat": True}, "sensor X: lat True is no number"),
        ({"lat": None}, "sensor X: lat is missing"),
        ({"lat": math.nan}, "sensor X: lat nan is not finite"),
        ({"alt_m": 10**400}, f"sensor X: alt_m {10**400} is not finite"),
        ({"azimuth_unc": 0}, "sensor X: azimuth_unc 0 is not in (0, 10]"),
        ({"elevation_unc": -0.1}, "sensor X: elevation_unc -0.1 is not in (0, 10]"),
        ({"range_unc": 100.1}, "sensor X: range_unc 100.1 is not in (0, 100]"),
        ({"range_rate_unc": 15.1}, "sensor X: range_rate_unc 15.1 is not in (0, 15]"),
        ({"time_sigma_s": -1}, "sensor X: time_sigma_s -1 is not in [0, 10]"),
        ({"pos_unc": 1}, "sensor X: unknown key 'pos_unc' (kind radar does not have it)"),
        ({"floors": 5}, "sensor X: floors is not a mapping"),
        ({"floors": {"range_floor_m": 0}}, "sensor X: range_floor_m 0 is not in (0, 100000]"),
    ],
)
def test_each_fault_names_key_value_and_limit(change: dict[str, Any], fault: str) -> None:
    assert fault_of({**RADAR_ENTRY, **change}) == fault


def test_limits_themselves_are_allowed() -> None:
    edge = {
        "lat": -90, "lon": 360, "alt_m": -1000, "azimuth_unc": 10, "elevation_unc": 10,
        "range_unc": 100, "range_rate_unc": 15, "time_sigma_s": 10,
    }  # fmt: skip
    assert len(parse_sensors({"sensors": {"x" * 36: {**RADAR_ENTRY, **edge}}})) == 1


def test_a_link_has_no_site() -> None:
    fault = fault_of({**ISL_ENTRY, "lat": 1.0})
    assert fault == "sensor X: unknown key 'lat' (kind isl has no site)"


def test_every_fault_at_once() -> None:
    faults = faults_of(
        {
            "sensors": {
                "": RADAR_ENTRY,
                "x" * 37: RADAR_ENTRY,
                7: RADAR_ENTRY,
                "LIST": [],
                "R": {"kind": "radar"},
                "O": {**OPTICAL_ENTRY, "floors": {"typo": 1}},
            },
            "version": 2,
        }
    )
    assert len(faults) == 1 + 3 + 1 + 7 + 1
    assert faults[0] == "unknown top-level key 'version'"
    assert "sensor LIST is not a mapping" in faults
    assert any(fault.startswith("sensor O: unknown floor 'typo'; floors are") for fault in faults)
