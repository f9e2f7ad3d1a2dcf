"""The three kinds of observation as typed structs, and their JSON as a producer writes it (SPEC 1).

Units are the wire's: degrees, km, km/s, seconds, one-sigma ``*Unc``. Reading is in wire.py.
"""

# ruff: noqa: N815 - the field names are the wire's own

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import msgspec
import orjson

from sda_pipeline.settings import ISL, OPTICAL, RADAR

TOPICS = {RADAR: "sda.obs.radar", OPTICAL: "sda.obs.optical", ISL: "sda.obs.isl"}
SCHEMA_VERSION = 1
COV_TERMS = 21
STATE = ("xpos", "ypos", "zpos", "xvel", "yvel", "zvel")
ABSENT = math.nan  # JSON has no NaN, so it can stand for an optional number that was not sent

Mode: TypeAlias = Literal["REAL", "TEST", "SIMULATED", "EXERCISE"]
ReferenceFrame: TypeAlias = Literal["TEME", "J2000"]
Cov: TypeAlias = Annotated[
    tuple[float, ...], msgspec.Meta(min_length=COV_TERMS, max_length=COV_TERMS)
]


class RadarObs(msgspec.Struct, gc=False):
    """Topocentric radar observation: deg, km, km/s. Fields stand in the order we send them."""

    id: str
    satNo: int
    idSensor: str
    obTime: str
    dataMode: Mode
    source: str
    azimuth: float  # from north through east
    elevation: float
    range: float
    rangeRate: float = ABSENT
    azimuthUnc: float = ABSENT
    elevationUnc: float = ABSENT
    rangeUnc: float = ABSENT
    rangeRateUnc: float = ABSENT
    timeUnc: float = ABSENT  # s
    schemaVersion: int = SCHEMA_VERSION
    priority: str = ""


class OpticalObs(msgspec.Struct, gc=False):
    """Right ascension and declination, deg, J2000; site overrides deg and km, all three or none."""

    id: str
    satNo: int
    idSensor: str
    obTime: str
    dataMode: Mode
    source: str
    ra: float
    declination: float
    raUnc: float = ABSENT  # on the sky: already times cos declination
    declinationUnc: float = ABSENT
    senlat: float = ABSENT
    senlon: float = ABSENT
    senalt: float = ABSENT
    timeUnc: float = ABSENT
    schemaVersion: int = SCHEMA_VERSION
    priority: str = ""


class IslObs(msgspec.Struct, gc=False):
    """A state from an inter-satellite link: km, km/s; ``cov`` lower triangle by rows, km and s."""

    id: str
    satNo: int
    idSensor: str
    obTime: str
    dataMode: Mode
    source: str
    xpos: float
    ypos: float
    zpos: float
    xvel: float
    yvel: float
    zvel: float
    referenceFrame: ReferenceFrame
    cov: Cov = ()
    posUnc: float = ABSENT
    velUnc: float = ABSENT
    timeUnc: float = ABSENT
    schemaVersion: int = SCHEMA_VERSION
    priority: str = ""


Obs: TypeAlias = RadarObs | OpticalObs | IslObs
STRUCTS: dict[int, type[Obs]] = {RADAR: RadarObs, OPTICAL: OpticalObs, ISL: IslObs}


def number_names(struct: type[Obs]) -> tuple[str, ...]:
    """The float fields of a kind, in the order in which NUMBERS gives them."""
    return tuple(field.name for field in msgspec.structs.fields(struct) if field.type is float)


def _radar_numbers(observations: Sequence[Any]) -> list[tuple[float, ...]]:
    return [
        (
            o.azimuth, o.elevation, o.range, o.rangeRate, o.azimuthUnc, o.elevationUnc,
            o.rangeUnc, o.rangeRateUnc, o.timeUnc,
        )
        for o in observations
    ]  # fmt: skip


def _optical_numbers(observations: Sequence[Any]) -> list[tuple[float, ...]]:
    return [
        (
            o.ra, o.declination, o.raUnc, o.declinationUnc,
            o.senlat, o.senlon, o.senalt, o.timeUnc,
        )
        for o in observations
    ]  # fmt: skip


def _isl_numbers(observations: Sequence[Any]) -> list[tuple[float, ...]]:
    return [
        (o.xpos, o.ypos, o.zpos, o.xvel, o.yvel, o.zvel, o.posUnc, o.velUnc, o.timeUnc)
        for o in observations
    ]


# Attribute access written out costs half of access by name, and this is done for every observation.
NUMBERS: dict[int, Callable[[Sequence[Any]], list[tuple[float, ...]]]] = {
    RADAR: _radar_numbers,
    OPTICAL: _optical_numbers,
    ISL: _isl_numbers,
}


class Envelope(NamedTuple):
    """What every observation carries. ``obTime`` is text, of times.format_times by the column."""

    id: str
    satNo: int
    idSensor: str
    obTime: str
    dataMode: Mode = "SIMULATED"
    source: str = "sda-sim"


def encode_radar(
    envelope: Envelope,
    azimuth: float,
    elevation: float,
    range_km: float,
    range_rate: float | None = None,
    *,
    optional: Mapping[str, float | int | str] | None = None,
) -> bytes:
    """A radar message. Wire units: deg, deg, km, km/s; ``optional`` fields by their wire names."""
    fields = {**envelope._asdict(), "azimuth": azimuth, "elevation": elevation, "range": range_km}
    if range_rate is not None:
        fields["rangeRate"] = range_rate
    return orjson.dumps(fields | dict(optional or {}))


def encode_optical(
    envelope: Envelope,
    ra: float,
    declination: float,
    *,
    optional: Mapping[str, float | int | str] | None = None,
) -> bytes:
    """An optical message. Wire units: deg, J2000; ``optional`` fields by their wire names."""
    fields = {**envelope._asdict(), "ra": ra, "declination": declination}
    return orjson.dumps(fields | dict(optional or {}))


def encode_isl(
    envelope: Envelope,
    position_km: Sequence[float],
    velocity_km_s: Sequence[float],
    frame: ReferenceFrame = "TEME",
    *,
    cov: Sequence[float] | None = None,
    optional: Mapping[str, float | int | str] | None = None,
) -> bytes:
    """An ISL message. Wire units: km, km/s; ``cov`` 21 terms, lower triangle by rows."""
    state = zip(STATE, (*position_km, *velocity_km_s), strict=True)
    fields = {**envelope._asdict(), **dict(state), "referenceFrame": frame}
    if cov is not None:
        fields["cov"] = list(cov)
    return orjson.dumps(fields | dict(optional or {}))
