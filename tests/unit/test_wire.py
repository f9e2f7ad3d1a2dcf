"""What is an observation and what is not: golden messages, and every rule of form in SPEC 1."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from sda_pipeline.limits import PAYLOAD_BYTES_MAX
from sda_pipeline.records.rows import uuid_text
from sda_pipeline.records.wire import (
    Decoded,
    Envelope,
    decode_batch,
    encode_isl,
    encode_optical,
    encode_radar,
)
from sda_pipeline.settings import ISL, OPTICAL, RADAR
from sda_pipeline.vocabulary import ErrorKind

COMMON = {
    "id": "0123ABcd-4567-89EF-0011-223344556677",
    "satNo": 25544,
    "idSensor": "RAD-001",
    "obTime": "2026-04-01T00:00:00.123456789Z",
    "dataMode": "REAL",
    "source": "site",
}
VALID: dict[int, dict[str, Any]] = {
    RADAR: {**COMMON, "azimuth": 350.5, "elevation": 45.25, "range": 1200.125},
    OPTICAL: {**COMMON, "idSensor": "OPT-001", "ra": 12.5, "declination": -7.25},
    ISL: {
        **COMMON, "idSensor": "ISL-001", "referenceFrame": "J2000", "xpos": 7000.5, "ypos": 1.0,
        "zpos": -2.0, "xvel": 0.5, "yvel": 7.5, "zvel": 0.25,
    },
}  # fmt: skip
OPTIONAL: dict[int, dict[str, float]] = {
    RADAR: {
        "rangeRate": -1.5, "azimuthUnc": 0.1, "elevationUnc": 0.2, "rangeUnc": 0.3,
        "rangeRateUnc": 0.4, "timeUnc": 0.5,
    },
    OPTICAL: {
        "raUnc": 0.1, "declinationUnc": 0.2, "senlat": 10.0, "senlon": 20.0, "senalt": 0.3,
        "timeUnc": 0.5,
    },
    ISL: {"posUnc": 0.1, "velUnc": 0.2, "timeUnc": 0.5},
}  # fmt: skip
T_NS = 1_775_001_600_123_456_789


def as_bytes(message: bytes | dict[str, Any]) -> bytes:
    return message if isinstance(message, bytes) else json.dumps(message).encode()


def decode(kind: int, *messages: bytes | dict[str, Any]) -> Decoded:
    return decode_batch(
        kind, [m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages]
    )


def refusal(kind: int, message: bytes | dict[str, Any]) -> tuple[ErrorKind, str]:
    """The one rejection of a message; between two good ones, which must come through."""
    alone = decode(kind, message)
    assert len(alone.observations) == len(alone.discards) == 0
    among = decode(kind, VALID[kind], message, VALID[kind])
    assert among.index.tolist() == [0, 2]
    (one,), (two,) = alone.rejects, among.rejects
    assert (one.index, two.index) == (0, 1)
    assert (one.kind, one.message, one.sensor) == (two.kind, two.message, two.sensor)
    assert len(one.message) <= 300
    return one.kind, one.message


def radar(**change: Any) -> dict[str, Any]:
    return {**VALID[RADAR], **change}


def raw(text: str) -> bytes:
    """A valid radar message with ``text`` in front of its fields."""
    return b"{" + text.encode() + b"," + json.dumps(VALID[RADAR]).encode()[1:]


@pytest.mark.parametrize("kind", [RADAR, OPTICAL, ISL])
def test_golden_columns(kind: int) -> None:
    bare, full = VALID[kind], {**VALID[kind], **OPTIONAL[kind], "priority": "HIGH"}
    result = decode(kind, bare, full)
    assert result.rejects == result.discards == []
    assert result.index.tolist() == [0, 1]
    assert uuid_text(result.ids[0]) == COMMON["id"].lower()
    assert result.ids[0].tolist() == [0x0123ABCD456789EF, 0x0011223344556677]
    assert result.t.tolist() == [T_NS, T_NS]
    assert result.sat.tolist() == [25544, 25544]
    assert result.sensors == [VALID[kind]["idSensor"]] * 2
    required = {name for name, value in bare.items() if isinstance(value, float)}
    assert result.numbers.keys() == required | OPTIONAL[kind].keys()
    for name, column in result.numbers.items():
        assert column.flags.c_contiguous
        assert column[1] == full[name]
        assert column[0] == bare[name] if name in required else math.isnan(column[0])


def test_golden_isl_frame_and_covariance() -> None:
    cov = [float(n + 1) for n in range(21)]
    sent = {**VALID[ISL], "cov": cov, "referenceFrame": "TEME"}
    result = decode(ISL, VALID[ISL], sent)
    assert result.j2000.tolist() == [True, False]
    assert np.isnan(result.cov[0]).all()
    assert result.cov[1].tolist() == cov


def test_encoded_messages_decode_to_what_went_in() -> None:
    envelope = Envelope(COMMON["id"], 25544, "X", COMMON["obTime"])
    extra = {"timeUnc": 0.5, "priority": "HIGH"}
    radar_message = encode_radar(envelope, 1.5, 2.5, 3000.5, -0.25, optional=extra)
    assert json.loads(radar_message)["dataMode"] == "SIMULATED"
    got = decode(RADAR, radar_message, encode_radar(envelope, 1.5, 2.5, 3000.5)).numbers
    assert [got[n][0] for n in ("azimuth", "elevation", "range", "rangeRate")] == [
        1.5,
        2.5,
        3000.5,
        -0.25,
    ]
    assert got["timeUnc"][0] == 0.5
    assert math.isnan(got["rangeRate"][1])
    got = decode(OPTICAL, encode_optical(envelope, 1.5, 2.5, optional={"raUnc": 0.1})).numbers
    assert [got[name][0] for name in ("ra", "declination", "raUnc")] == [1.5, 2.5, 0.1]
    cov = [0.5] * 21
    state = decode(ISL, encode_isl(envelope, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "J2000", cov=cov))
    names = ("xpos", "ypos", "zpos", "xvel", "yvel", "zvel")
    assert [state.numbers[name][0] for name in names] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert state.j2000.tolist() == [True]
    assert state.cov[0].tolist() == cov


@pytest.mark.parametrize(
    "message",
    [
        radar(azimuth=350, range=1200),  # integers for floats
        radar(schemaVersion=1),
        radar(unknown={"a": [1, "x", None]}, descriptor=None),
        radar(source="Météo-France ☂"),
        radar(dataMode="EXERCISE", priority="LOW"),
        raw('"azimuth": 1.0, "satNo": 3'),  # of a repeated key the last counts
        json.dumps(VALID[RADAR], indent=2).encode() + b"\r\n ",
    ],
)
def test_accepted(message: bytes | dict[str, Any]) -> None:
    result = decode(RADAR, message)
    assert result.rejects == []
    assert result.sat.tolist() == [25544]
    assert result.numbers["azimuth"][0] in {350.0, 350.5}


def test_empty_and_oversize_are_discarded_at_the_limit() -> None:
    body = json.dumps(VALID[RADAR]).encode()
    full = body + b" " * (PAYLOAD_BYTES_MAX - len(body))
    result = decode(RADAR, b"", full, full + b" ", b"\xff" * (PAYLOAD_BYTES_MAX + 1), body)
    assert result.discards == [(0, "empty"), (2, "oversize"), (3, "oversize")]
    assert result.index.tolist() == [1, 4]
    assert result.rejects == []


def test_nothing_to_decode() -> None:
    for kind in (RADAR, OPTICAL, ISL):
        result = decode_batch(kind, [])
        assert len(result.t) == len(result.sat) == len(result.numbers["timeUnc"]) == 0


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b" ", "truncated"),
        (b"\x00\x01", "malformed"),
        (b"\x00\x01\xfe", "utf-8"),
        (b"{", "truncated"),
        (b'"text"', "Expected `object`, got `str`"),
        (b"[]", "Expected `object`, got `array`"),
        (b"\xef\xbb\xbf" + raw('"a":1'), "malformed"),
        (raw('"a":1') + b"x", "trailing"),
        (raw('"range": NaN'), "malformed"),
        (raw('"x": Infinity'), "malformed"),
        (raw('"x": 01'), "invalid number"),
        (raw('"x": "\\ud800"'), ""),
        (raw('"x": 1').replace(b'"x"', b'"\xff"'), "utf-8"),
        (raw('"x": "y"').replace(b"y", b"\xff"), "utf-8"),
        (raw('"x": ' + "[" * 30_000 + "]" * 30_000), "nested"),
        (raw('"x": ' + '{"a":' * 10_000), "nested"),
        (radar(azimuth="350.5"), "Expected `float`, got `str` - at `$.azimuth`"),
        (radar(azimuth=True), "Expected `float`, got `bool`"),
        (radar(azimuth=None), "Expected `float`, got `null`"),
        (radar(rangeUnc=None), "Expected `float`, got `null` - at `$.rangeUnc`"),
        (radar(satNo="25544"), "Expected `int`, got `str`"),
        (radar(satNo=25544.0), "Expected `int`, got `float`"),
        (radar(idSensor=7), "Expected `str`, got `int`"),
        (radar(obTime=1_775_001_600), "Expected `str`, got `int`"),
        (radar(dataMode="FAKE"), "Invalid enum value 'FAKE' - at `$.dataMode`"),
        (radar(dataMode="F" * 60_000), "Invalid enum value 'FFF"),
        (radar(schemaVersion="1"), "Expected `int`, got `str`"),
        (radar(priority=1), "Expected `str`, got `int`"),
        (radar(id="0123abcd456789ef0011223344556677"), "is not a UUID: 8-4-4-4-12"),
        (radar(id="0123abcd-4567-89ef-0011-22334455667g"), "is not a UUID"),
        (radar(id="0123abcd-4567-89ef-0011-2233445566７"), "is not a UUID"),
        (radar(id=""), "id '' is not a UUID"),
        (radar(obTime="2026-02-30T00:00:00Z"), "obTime '2026-02-30T00:00:00Z' is not a time: YYYY"),
        (radar(obTime="2026-06-30T23:59:60Z"), "no leap second"),
        (radar(obTime="2026-06-30T23:59:59.0123456789Z"), "1 to 9 digits"),
    ],
)  # fmt: skip
def test_deserialization(message: bytes | dict[str, Any], words: str) -> None:
    kind, text = refusal(RADAR, message)
    assert kind is ErrorKind.DESERIALIZATION
    assert words in text


@pytest.mark.parametrize("kind", [RADAR, OPTICAL, ISL])
def test_every_required_field_is_required(kind: int) -> None:
    for name in VALID[kind]:
        message = {key: value for key, value in VALID[kind].items() if key != name}
        expected = f"wrong form: Object missing required field `{name}`"
        assert refusal(kind, message) == (ErrorKind.DESERIALIZATION, expected)


@pytest.mark.parametrize("cov", [[], [1.0] * 20, [1.0] * 22, ["1"] * 21, None, {}])
def test_covariance_has_21_numbers(cov: object) -> None:
    kind, text = refusal(ISL, {**VALID[ISL], "cov": cov})
    assert kind is ErrorKind.DESERIALIZATION
    assert "$.cov" in text


def test_reference_frame_is_one_of_two() -> None:
    assert refusal(ISL, {**VALID[ISL], "referenceFrame": "ITRF"})[0] is ErrorKind.DESERIALIZATION


@pytest.mark.parametrize("sent", ["senlat", "senlon", "senalt", "senlat senlon", "senlon senalt"])
def test_own_site_is_whole_or_absent(sent: str) -> None:
    message = {**VALID[OPTICAL], **dict.fromkeys(sent.split(), 1.0)}
    kind, text = refusal(OPTICAL, message)
    assert kind is ErrorKind.DESERIALIZATION
    assert text.endswith("missing: senlat, senlon, senalt go all three or none")
    assert all(name not in text.split(" missing")[0] for name in sent.split())


@pytest.mark.parametrize("version", [0, 2, -1, 10**30])
def test_schema_version(version: int) -> None:
    kind, text = refusal(RADAR, radar(schemaVersion=version))
    assert kind is ErrorKind.SCHEMA_MISMATCH
    assert text.startswith("schemaVersion ")
    assert text.endswith(" is not supported: 1")


def test_form_comes_before_version() -> None:
    """The order of the table: what cannot be read is not judged by its version."""
    assert refusal(RADAR, radar(schemaVersion=2, id="x"))[0] is ErrorKind.DESERIALIZATION
    assert refusal(RADAR, radar(schemaVersion=2, obTime="x"))[0] is ErrorKind.DESERIALIZATION
    assert refusal(RADAR, radar(schemaVersion=2, range="x"))[0] is ErrorKind.DESERIALIZATION
    only_lat = {**VALID[OPTICAL], "schemaVersion": 2, "senlat": 1.0}
    assert refusal(OPTICAL, only_lat)[0] is ErrorKind.DESERIALIZATION


def test_rejects_are_in_batch_order_whatever_the_rule() -> None:
    result = decode(RADAR, radar(id="x"), b"{", radar(schemaVersion=2), b"x", radar(obTime="y"))
    assert [reject.index for reject in result.rejects] == [0, 1, 2, 3, 4]
    assert [reject.sensor for reject in result.rejects] == ["RAD-001", "", "RAD-001", "", "RAD-001"]


def test_index_starts_at_first() -> None:
    body = json.dumps(VALID[RADAR]).encode()
    result = decode_batch(RADAR, [body, b"", b"{", body], 100)
    assert (result.index.tolist(), result.discards) == ([100, 103], [(101, "empty")])
    assert result.rejects[0].index == 102


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400, "-" + "9" * 5000])
def test_numbers_beyond_a_float_are_read_as_not_finite(number: str) -> None:
    """They are JSON of the right type; the rule 'not finite' judges them, not the decoder."""
    message = json.dumps(radar(range="#")).replace('"#"', number).encode()
    result = decode(RADAR, message, VALID[RADAR])
    assert result.rejects == []
    assert np.isinf(result.numbers["range"]).tolist() == [True, False]


def test_numbers_beyond_a_float_excuse_nothing_else() -> None:
    huge = json.dumps(radar(range="#", elevation="text")).replace('"#"', "1e999").encode()
    assert refusal(RADAR, huge)[0] is ErrorKind.DESERIALIZATION
    surrogate = json.dumps(radar(range="#", idSensor="\ud800")).replace('"#"', "1e999").encode()
    assert refusal(RADAR, surrogate)[0] is ErrorKind.DESERIALIZATION
    constant = json.dumps(radar(range="#", x=math.nan)).replace('"#"', "1e999").encode()
    assert refusal(RADAR, constant)[0] is ErrorKind.DESERIALIZATION


@pytest.mark.parametrize("digits", [19, 20, 30, 4000])
def test_huge_satellite_numbers_reach_the_range_rule(digits: int) -> None:
    result = decode(RADAR, radar(satNo=int("9" * digits)), radar(satNo=-int("9" * digits)))
    assert result.rejects == []
    assert ((result.sat < 1) | (result.sat > 999_999_999)).all()
