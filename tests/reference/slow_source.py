"""One observation from JSON bytes to a row or its class; lateness; one at a time. Not fast.

Follows SPEC 1, 2 and DESIGN 8. A row is a plain mapping: id (two integers), t, ingest, sat, kind,
sensor, info (21), vec (6), nis, partition, offset.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from scipy.stats import chi2

from sda_pipeline.astro.catalogue import Catalogue
from sda_pipeline.sensors import SensorRegistry
from sda_pipeline.settings import ISL, KIND_NAMES, OPTICAL, RADAR, EventTime, Physics
from tests.reference.slow_geometry import SECOND, trajectory
from tests.reference.slow_measurement import (
    Refused,
    information,
    innovation_squared,
    isl,
    optical,
    radar,
)

GATES = {dof: float(chi2.isf(1e-6, dof)) for dof in (2, 3, 4, 6)}  # 27.63 30.66 33.38 38.26
PAYLOAD_BYTES = 65_536
RANGES = {
    "azimuth": (-360, 360), "ra": (-360, 360), "elevation": (-5, 90), "declination": (-90, 90),
    "range": (50, 100_000), "rangeRate": (-15, 15),
}  # fmt: skip
REQUIRED = {
    RADAR: ("azimuth", "elevation", "range"),
    OPTICAL: ("ra", "declination"),
    ISL: ("xpos", "ypos", "zpos", "xvel", "yvel", "zvel"),
}
UNCERTAINTIES = {
    "azimuthUnc": 10, "elevationUnc": 10, "raUnc": 10, "declinationUnc": 10, "rangeUnc": 100,
    "posUnc": 100, "rangeRateUnc": 15, "velUnc": 15, "timeUnc": 10,
}  # fmt: skip
TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
Row = dict[str, Any]


def parse_time(text: str) -> int:
    """RFC 3339 with Z to ns."""
    match = TIME.fullmatch(text)
    if match is None:
        raise Refused("Deserialization", f"time {text}")
    try:
        whole = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    except ValueError:
        raise Refused("Deserialization", f"time {text}") from None
    days = whole.toordinal() - 719_163
    seconds = days * 86_400 + whole.hour * 3600 + whole.minute * 60 + whole.second
    return seconds * SECOND + int((match[2] or "").ljust(9, "0"))


def decode(kind: int, value: bytes) -> dict[str, Any]:
    """The JSON object, with the fields every observation of the kind must have."""
    if not value or len(value) > PAYLOAD_BYTES:
        raise Refused("Discard", "empty" if not value else "oversize")
    try:
        obs = json.loads(value)
        texts = [obs[name] for name in ("id", "idSensor", "obTime", "dataMode", "source")]
        numbers = [obs[name] for name in ("satNo", *REQUIRED[kind])]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused("Deserialization", repr(error)) from None
    for text in texts:
        if not isinstance(text, str):
            raise Refused("Deserialization", f"{text} is no text")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise Refused("Deserialization", f"{number} is no number")
    if UUID.fullmatch(obs["id"]) is None:
        raise Refused("Deserialization", f"id {obs['id']}")
    if obs.get("schemaVersion", 1) != 1:
        raise Refused("SchemaMismatch", str(obs["schemaVersion"]))
    return dict(obs)


def reduce(
    kind: int,
    value: bytes,
    timestamp_ms: int,
    catalogue: Catalogue,
    index_of: dict[int, int],
    sensors: SensorRegistry,
    physics: Physics,
) -> Row:
    """The row of one message, or Refused. ``index_of``: place in the catalogue by satNo."""
    obs = decode(kind, value)
    t = parse_time(obs["obTime"])
    place = sensors.index(obs["idSensor"])
    index = index_of.get(obs["satNo"], -1)
    if place < 0 or index < 0 or sensors.sensors[place].kind != kind:
        raise Refused("ValidationFailed", f"sensor {obs['idSensor']} or object {obs['satNo']}")
    sensor = sensors.sensors[place]
    for name, (low, high) in RANGES.items():
        if name in obs and not low <= obs[name] <= high:
            raise Refused("ValidationFailed", f"{name} {obs[name]}")
    for name, high in UNCERTAINTIES.items():
        if name in obs and not 0.0 < obs[name] <= high:
            raise Refused("ValidationFailed", f"{name} {obs[name]}")
    if t > timestamp_ms * 1_000_000 + round(physics.clock_ahead_max_s * SECOND):
        raise Refused("ValidationFailed", f"{obs['obTime']} is ahead of the clock")
    r, v = trajectory(catalogue, index, t)
    leo = catalogue.mean_motion[index] >= physics.leo_min_rev_per_day
    prior = physics.leo if leo else physics.deep
    if kind == ISL:
        info, vec, nis = isl(obs, r, v, t, sensor, prior)
        gate = GATES[6]
    else:
        lines = (radar if kind == RADAR else optical)(obs, r, v, t, sensor, physics)
        info, vec = information(lines)
        nis, gate = innovation_squared(lines, r, v, prior), GATES[len(lines)]
    if not nis <= gate:
        raise Refused("ValidationFailed", f"innovation {nis}")
    number = int(obs["id"].replace("-", ""), 16)
    return {
        "id": (number >> 64, number & (2**64 - 1)), "t": t, "ingest": 0, "sat": obs["satNo"],
        "kind": kind, "sensor": place, "info": info, "vec": vec, "nis": nis,
        "partition": 0, "offset": 0,
    }  # fmt: skip


class Lateness:
    """Event time of one source: decides row by row, per partition, in offset order (DESIGN 8)."""

    def __init__(self, kind: int, event_time: EventTime) -> None:
        self.behind = round(event_time.max_lateness_s[KIND_NAMES[kind]] * SECOND)
        self.allowed = round(event_time.allowed_lateness_s * SECOND)
        self.marks: dict[int, int] = {}
        self.late = 0

    def accept(self, partition: int, t: int) -> bool:
        """Whether the next row of this partition is in time; a late one moves nothing."""
        mark = self.marks.get(partition)
        if mark is not None and t < mark - self.allowed:
            self.late += 1
            return False
        reached = t - self.behind
        self.marks[partition] = reached if mark is None else max(mark, reached)
        return True

    def watermark(self) -> int | None:
        """The minimum over the partitions seen; None before the first row."""
        return min(self.marks.values(), default=None)
