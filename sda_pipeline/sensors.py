"""The sensor registry: sites, noise, clocks, floors (SPEC 11). Not the reading of its file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.limits import SENSOR_ID_CHARS_MAX
from sda_pipeline.settings import ISL, KIND_CODES, KIND_NAMES, OPTICAL, RADAR

F8 = npt.NDArray[np.float64]

SENSORS_MAX = 65_535  # a row names its sensor in two bytes
NUMBER_MAX = 1e300  # YAML knows .inf, .nan and integers of any length
ANGLE_UNC_MAX_DEG, LENGTH_UNC_MAX_KM, RATE_UNC_MAX_KM_S, TIME_UNC_MAX_S = 10.0, 100.0, 15.0, 10.0
TIME_SIGMA_DEFAULT_S = 0.001

_SITE = {"lat": (-90.0, 90.0), "lon": (-180.0, 360.0), "alt_m": (-1000.0, 20_000.0)}
_UNCERTAINTIES = {
    RADAR: {
        "azimuth_unc": ANGLE_UNC_MAX_DEG,
        "elevation_unc": ANGLE_UNC_MAX_DEG,
        "range_unc": LENGTH_UNC_MAX_KM,
        "range_rate_unc": RATE_UNC_MAX_KM_S,
    },
    OPTICAL: {"ra_unc": ANGLE_UNC_MAX_DEG, "declination_unc": ANGLE_UNC_MAX_DEG},
    ISL: {"pos_unc": LENGTH_UNC_MAX_KM, "vel_unc": RATE_UNC_MAX_KM_S},
}
_FLOORS = {
    "angle_floor_deg": (0.001, ANGLE_UNC_MAX_DEG),
    "range_floor_m": (5.0, 1e5),
    "rate_floor_m_s": (0.05, 1e4),
    "pos_floor_m": (1.0, 1e5),
    "vel_floor_m_s": (0.001, 1e4),
}  # default and largest


@dataclass(frozen=True)
class Sensor:
    """One sensor; uncertainties one sigma in wire units; NaN where its kind has none.

    An ISL terminal has no site. Floors bound what a producer may claim to know (SPEC 1).
    """

    id: str
    kind: int  # RADAR, OPTICAL or ISL
    lat: float = math.nan  # geodetic, deg
    lon: float = math.nan  # east, deg
    alt_m: float = math.nan  # above the WGS-84 ellipsoid
    azimuth_unc: float = math.nan  # deg
    elevation_unc: float = math.nan  # deg
    range_unc: float = math.nan  # km
    range_rate_unc: float = math.nan  # km/s
    ra_unc: float = math.nan  # deg on the sky
    declination_unc: float = math.nan  # deg
    pos_unc: float = math.nan  # km per axis
    vel_unc: float = math.nan  # km/s per axis
    time_sigma_s: float = TIME_SIGMA_DEFAULT_S
    angle_floor_deg: float = _FLOORS["angle_floor_deg"][0]
    range_floor_m: float = _FLOORS["range_floor_m"][0]
    rate_floor_m_s: float = _FLOORS["rate_floor_m_s"][0]
    pos_floor_m: float = _FLOORS["pos_floor_m"][0]
    vel_floor_m_s: float = _FLOORS["vel_floor_m_s"][0]


class SensorRegistry:
    """All sensors in file order; that order is the index a row keeps."""

    def __init__(self, sensors: Sequence[Sensor]) -> None:
        self.sensors = tuple(sensors)
        self.ids = [sensor.id for sensor in self.sensors]
        self.kinds = np.array([sensor.kind for sensor in self.sensors], np.int64)
        self._by_id = {sensor_id: i for i, sensor_id in enumerate(self.ids)}
        self._columns = {
            name: np.array([getattr(sensor, name) for sensor in self.sensors], np.float64)
            for name in Sensor.__dataclass_fields__
            if name not in {"id", "kind"}
        }

    def index(self, sensor_id: str) -> int:
        """Position of a sensor, -1 when unknown."""
        return self._by_id.get(sensor_id, -1)

    def indices(self, sensor_ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Positions (m,) of many sensors, -1 where unknown."""
        get = self._by_id.get
        return np.array([get(sensor_id, -1) for sensor_id in sensor_ids], np.int64)

    def column(self, name: str) -> F8:
        """One numeric field of every sensor (n,), by the name and in the unit it has in Sensor."""
        return self._columns[name]

    def of_kind(self, kind: int) -> npt.NDArray[np.int64]:
        """Positions of the sensors of one kind, ascending."""
        return np.flatnonzero(self.kinds == kind)

    def __len__(self) -> int:
        return len(self.sensors)


def parse_sensors(mapping: object) -> SensorRegistry:
    """The registry of a loaded sensors file, ``{"sensors": {ID: {...}}}``.

    InvalidConfiguration with every fault at once, each naming sensor, key, value and limit.
    """
    faults: list[str] = []
    top = mapping if isinstance(mapping, Mapping) else {}
    entries = top.get("sensors")
    if not isinstance(entries, Mapping) or not entries:
        raise InvalidConfiguration(
            "read the sensors", ["there is no non-empty mapping 'sensors'"], "see sensors.yaml"
        )
    faults += [f"unknown top-level key {key!r}" for key in top if key != "sensors"]
    if len(entries) > SENSORS_MAX:
        faults.append(f"{len(entries)} sensors are more than {SENSORS_MAX}")
    sensors = [_sensor(sensor_id, entry, faults) for sensor_id, entry in entries.items()]
    if faults:
        raise InvalidConfiguration("read the sensors", faults, "see the comments in sensors.yaml")
    return SensorRegistry([sensor for sensor in sensors if sensor is not None])


def _sensor(sensor_id: object, entry: object, faults: list[str]) -> Sensor | None:
    """One entry; its faults are added to the list."""
    if not isinstance(sensor_id, str) or not 1 <= len(sensor_id) <= SENSOR_ID_CHARS_MAX:
        faults.append(f"sensor id {sensor_id!r} is not text of 1..{SENSOR_ID_CHARS_MAX} characters")
        return None
    if not isinstance(entry, Mapping):
        faults.append(f"sensor {sensor_id} is not a mapping")
        return None
    name = entry.get("kind")
    kind = KIND_CODES.get(name) if isinstance(name, str) else None
    if kind is None:
        faults.append(f"sensor {sensor_id}: kind {name!r} is not one of {', '.join(KIND_CODES)}")
        return None
    fields = _fields(sensor_id, kind, entry, faults)
    return Sensor(id=sensor_id, kind=kind, **fields)


def _fields(
    sensor_id: str, kind: int, entry: Mapping[object, object], faults: list[str]
) -> dict[str, float]:
    """The numbers of one entry, checked; a faulty one is left out and reported."""
    where = f"sensor {sensor_id}:"
    site = {} if kind == ISL else _SITE
    known = {"kind", "time_sigma_s", "floors", *site, *_UNCERTAINTIES[kind]}
    for key in (key for key in entry if key not in known):
        why = "has no site" if kind == ISL and key in _SITE else "does not have it"
        faults.append(f"{where} unknown key {key!r} (kind {KIND_NAMES[kind]} {why})")
    fields: dict[str, float | None] = {}
    for key, (low, high) in site.items():
        fields[key] = _number(f"{where} {key}", entry.get(key), low, high, faults)
    for key, highest in _UNCERTAINTIES[kind].items():
        fields[key] = _positive(f"{where} {key}", entry.get(key), highest, faults)
    if "time_sigma_s" in entry:
        value = entry["time_sigma_s"]
        fields["time_sigma_s"] = _number(
            f"{where} time_sigma_s", value, 0.0, TIME_UNC_MAX_S, faults
        )
    floors = entry.get("floors", {})
    if not isinstance(floors, Mapping):
        faults.append(f"{where} floors is not a mapping")
        floors = {}
    for key, value in floors.items():
        if key not in _FLOORS:
            faults.append(f"{where} unknown floor {key!r}; floors are {', '.join(_FLOORS)}")
        else:
            highest = _FLOORS[key][1]
            fields[key] = _positive(f"{where} {key}", value, highest, faults)
    return {key: value for key, value in fields.items() if value is not None}


def _number(what: str, value: object, low: float, high: float, faults: list[str]) -> float | None:
    """A number in [low, high], else a fault."""
    number = _finite(what, value, faults)
    if number is None or low <= number <= high:
        return number
    faults.append(f"{what} {value} is not in [{low:g}, {high:g}]")
    return None


def _positive(what: str, value: object, high: float, faults: list[str]) -> float | None:
    """A number in (0, high], else a fault."""
    number = _finite(what, value, faults)
    if number is None or 0.0 < number <= high:
        return number
    faults.append(f"{what} {value} is not in (0, {high:g}]")
    return None


def _finite(what: str, value: object, faults: list[str]) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        faults.append(f"{what} is missing" if value is None else f"{what} {value!r} is no number")
        return None
    if abs(value) <= NUMBER_MAX:
        return float(value)
    faults.append(f"{what} {value} is not finite")
    return None
