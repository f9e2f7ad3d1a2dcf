"""Every rule of the classification table, from both sides of its limit, and their order."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from scipy.special import chdtri

from operators.core.pivots import smallest_pivot
from operators.core.validation import GATE_PROBABILITY, GATES, RANGES
from sda_pipeline.astro.fusion import pack21
from sda_pipeline.records.times import format_time
from sda_pipeline.settings import ISL, OPTICAL, RADAR, Physics
from sda_pipeline.vocabulary import ErrorKind
from tests.unit.observation_rig import KINDS, diagonal_cov, one, reducer

Verdict = tuple[ErrorKind, str] | None


def verdict(kind: int, change: dict[str, Any], **late: Any) -> Verdict:
    """What becomes of a good message with some fields changed; None when it is accepted."""
    fields, at_ms = one(kind)
    at_ms = late.get("at_ms", at_ms)
    raw = orjson.dumps({k: v for k, v in (fields | change).items() if v is not ...})
    raw = raw.replace(b'"1e999"', b"1e999")
    physics = late.get("physics", Physics())
    batch = reducer(kind, physics).reduce([raw], np.array([at_ms]))
    assert len(batch.rows) + len(batch.rejects) == 1
    return (batch.rejects[0].kind, batch.rejects[0].message) if batch.rejects else None


def failed(kind: int, change: dict[str, Any], **late: Any) -> str:
    """The message of a message that fails validation."""
    found = verdict(kind, change, **late)
    assert found is not None
    assert found[0] is ErrorKind.VALIDATION_FAILED
    return found[1]


CASES = [(kind, limit) for kind in KINDS for limit in RANGES[kind]]
NAMES = [limit.name for _, limit in CASES]


@pytest.mark.parametrize(("kind", "limit"), CASES, ids=NAMES)
def test_ranges_from_both_sides(kind: int, limit: Any) -> None:
    rule = f"out of range: {limit.name} "
    site = {"senlat": 0.0, "senlon": 0.0, "senalt": 0.0} if limit.name.startswith("sen") else {}
    step = 1e-9 * (limit.high - limit.low)
    for outside in (limit.low - step, limit.high + step, *([limit.low] if limit.is_sigma else [])):
        message = failed(kind, site | {limit.name: outside})
        assert message.startswith(f"{rule}{outside} {limit.unit}, limit ")
        assert message.endswith(f"{limit.low:g}, {limit.high:g}]")
    for inside in (limit.low + (step if limit.is_sigma else 0.0), limit.high):
        found = verdict(kind, site | {limit.name: inside})
        assert found is None or not found[1].startswith("out of range")
        assert found is None or not limit.is_sigma
    assert failed(kind, site | {limit.name: "1e999"}) == (
        f"not finite: {limit.name} is inf, it must be a finite number"
    )


def test_sigmas_and_ranges_are_those_of_the_specification() -> None:
    limits = {limit.name: (limit.low, limit.high) for kind in KINDS for limit in RANGES[kind]}
    expected = {
        "azimuth": (-360, 360), "ra": (-360, 360), "elevation": (-5, 90), "declination": (-90, 90),
        "range": (50, 100_000), "rangeRate": (-15, 15), "azimuthUnc": (0, 10), "raUnc": (0, 10),
        "elevationUnc": (0, 10), "declinationUnc": (0, 10), "rangeUnc": (0, 100),
        "posUnc": (0, 100),
    }  # fmt: skip
    assert limits | expected == limits


@pytest.mark.parametrize(
    ("satno", "message"),
    [
        (0, "out of range: satNo 0, limit [1, 999999999]"),
        (-5, "out of range: satNo -5, limit [1, 999999999]"),
        (1_000_000_000, "out of range: satNo 1000000000, limit [1, 999999999]"),
        (2**64, "out of range: satNo (an integer of 65 bits), limit [1, 999999999]"),
        (1, "unknown object: satNo 1 is not one of the 60 in the catalogue"),
        (999_999_999, "unknown object: satNo 999999999 is not one of the 60 in the catalogue"),
    ],
)
def test_satellite_numbers(satno: int, message: str) -> None:
    fields, at_ms = one(RADAR)
    raw = orjson.dumps(fields | {"satNo": 7777}).replace(b"7777", str(satno).encode(), 1)
    (reject,) = reducer(RADAR).reduce([raw], np.array([at_ms])).rejects
    assert (reject.kind, reject.message) == (ErrorKind.VALIDATION_FAILED, message)
    assert reject.sensor == fields["idSensor"]


def test_sensors_must_be_known_and_of_the_kind() -> None:
    unknown = failed(RADAR, {"idSensor": "nobody"})
    assert unknown == "unknown sensor: idSensor 'nobody' is not one of the 14 in the registry"
    assert len(failed(RADAR, {"idSensor": "n" * 50_000})) < 150
    other = failed(RADAR, {"idSensor": "optical-0"})
    assert other == "unknown sensor: idSensor 'optical-0' is of kind optical, not radar"


@pytest.mark.parametrize(("ahead_ns", "accepted"), [(2_000_000_000, True), (2_000_000_001, False)])
def test_clock_ahead_of_the_broker(ahead_ns: int, *, accepted: bool) -> None:
    """The broker's timestamp decides, never the wall clock."""
    at_ms = one(RADAR)[1]
    moved = {"obTime": format_time(at_ms * 1_000_000 + ahead_ns)}
    found = verdict(RADAR, moved, at_ms=at_ms)  # the object has moved on: the gate may refuse it
    assert (found is None or not found[1].startswith("clock ahead: ")) is accepted


def test_clock_ahead_message_and_setting() -> None:
    at_ms = one(RADAR)[1]
    assert verdict(RADAR, {}, at_ms=at_ms - 20 - 1990) is None
    message = failed(RADAR, {}, at_ms=at_ms - 20 - 59_000)
    assert message.startswith("clock ahead: obTime is 59.")
    assert message.endswith("s after the message's timestamp, clock_ahead_max 2 s")
    assert verdict(RADAR, {}, at_ms=at_ms - 60_000, physics=Physics(clock_ahead_max_s=90)) is None
    assert verdict(RADAR, {}, at_ms=-(2**62)) is not None
    assert verdict(RADAR, {}, at_ms=2**62) is None


@pytest.mark.parametrize(("kind", "name"), [(RADAR, "elevation"), (OPTICAL, "declination")])
def test_direction_from_both_sides(kind: int, name: str) -> None:
    """Turning the line of sight along a great circle by 59.9 and by 60.1 degrees."""
    fields, _ = one(kind)
    round_name = "azimuth" if kind == RADAR else "ra"
    steep, flat = np.radians(fields[name]), np.radians(fields[round_name])
    m = np.array([np.cos(steep) * np.cos(flat), np.cos(steep) * np.sin(flat), np.sin(steep)])
    side = np.cross(m, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    for angle, rule in (
        (59.9, "innovation gate: "),
        (60.1, "direction: 60.1 deg from the predicted"),
    ):
        a = np.radians(angle)
        x, y, z = np.cos(a) * m + np.sin(a) * side
        turned = {
            round_name: np.degrees(np.arctan2(y, x)).item(),
            name: np.degrees(np.arcsin(z)).item(),
        }
        message = failed(kind, turned)
        assert message.startswith(rule)
    assert message.endswith("one, at most 60")


GATED = [
    (OPTICAL, "declination", 0.01, 2, 27.63, {}),
    (RADAR, "range", 0.1, 3, 30.66, {"rangeRate": ...}),
    (RADAR, "range", 0.1, 4, 33.38, {}),
    (ISL, "xpos", 0.1, 6, 38.26, {}),
]


@pytest.mark.parametrize(("kind", "name", "step", "dof", "gate", "extra"), GATED)
def test_gate_from_both_sides(
    kind: int, name: str, step: float, dof: int, gate: float, extra: dict[str, Any]
) -> None:
    """NIS grows with the square of the offset: scale one offset to just below and just above."""
    assert GATES[dof] == pytest.approx(gate, abs=0.005)
    fields, at_ms = one(kind, at=1)
    fields = {k: v for k, v in (fields | extra).items() if v is not ...}

    def batch(offset: float) -> Any:
        raw = orjson.dumps(fields | {name: fields[name] + offset})
        return reducer(kind).reduce([raw], np.array([at_ms]))

    edge = step * np.sqrt(GATES[dof] / float(batch(step).rows["nis"][0])).item()
    assert len(batch(edge * 0.999).rows) == 1
    (reject,) = batch(edge * 1.001).rejects
    assert reject.kind is ErrorKind.VALIDATION_FAILED
    assert reject.message.startswith("innovation gate: normalized innovation squared ")
    assert reject.message.endswith(f"at most {gate:.2f} for {dof} degrees of freedom")


def test_isl_under_the_surface_or_too_fast() -> None:
    fields, _ = one(ISL)
    r = np.array([fields[f"{axis}pos"] for axis in "xyz"])
    v = np.array([fields[f"{axis}vel"] for axis in "xyz"])

    def scaled(vector: np.ndarray, length: float, quantity: str) -> dict[str, float]:
        moved = vector / np.linalg.norm(vector) * length
        return {f"{axis}{quantity}": float(x) for axis, x in zip("xyz", moved, strict=True)}

    low = failed(ISL, scaled(r, 6356.7, "pos"))
    assert low == "position under Earth's surface: radius 6356.700 km, at least 6356.752"
    assert failed(ISL, scaled(r, 6356.8, "pos")).startswith("innovation gate")
    fast = failed(ISL, scaled(v, 15.001, "vel"))
    assert fast == "speed over the limit: 15.001 km/s, at most 15"
    assert failed(ISL, scaled(v, 14.999, "vel")).startswith("innovation gate")


def packed(matrix: np.ndarray) -> list[float]:
    return [float(x) for x in pack21(matrix[None])[0]]


def correlated(rho: float) -> list[float]:
    """x and y of the position correlated by rho."""
    cov = np.diag([1e-3] * 3 + [1e-8] * 3)
    cov[1, 0] = cov[0, 1] = 1e-3 * rho
    return packed(cov)


def test_isl_covariance_must_be_positive_definite() -> None:
    assert verdict(ISL, {"cov": correlated(0.999999)}) is None
    for cov in (correlated(1.0), correlated(-1.0001), [0.0] * 21, [-1.0] * 21):
        message = failed(ISL, {"cov": cov})
        assert message.startswith("cov is not positive definite: smallest pivot ")
        assert message.endswith("of its correlation matrix, limit 1e-10")
    assert failed(ISL, {"cov": ["1e999"] * 21}).startswith("not finite: cov ")
    assert verdict(ISL, {"cov": diagonal_cov(100.0, 15.0)}) is None
    for too_large in (diagonal_cov(100.1, 1.0), diagonal_cov(1.0, 15.1)):
        message = failed(ISL, {"cov": too_large})
        assert message.startswith("out of range: cov diagonal [")
        assert message.endswith("sigmas at most 100 km and 15 km/s")


def test_smallest_pivot_agrees_with_eigenvalues() -> None:
    rng = np.random.default_rng(4)
    half = rng.standard_normal((200, 6, 6))
    sign = np.where(rng.random((200, 1)) < 0.5, 1.0, [[1.0, 1.0, -1.0, 1.0, 1.0, 1.0]])
    units = np.array([1e3, 1e3, 1e3, 1e-3, 1e-3, 1e-3])
    matrices = (half * sign[:, None, :]) @ half.transpose(0, 2, 1) * np.outer(units, units)
    expected = np.linalg.eigvalsh(matrices / np.outer(units, units)).min(axis=1) > 0
    pivots = smallest_pivot(pack21(matrices))
    assert 20 < expected.sum() < 180
    assert ((pivots > 0) == expected).all()
    alone = np.concatenate([smallest_pivot(pack21(matrices[k : k + 1])) for k in range(200)])
    np.testing.assert_array_equal(alone, pivots)


ORDER: list[tuple[dict[str, Any], str]] = [
    ({"azimuth": "x"}, "wrong form: Expected `float`, got `str`"),
    ({"id": "x"}, "id 'x' is not a UUID"),
    ({"obTime": "x"}, "obTime 'x' is not a time"),
    ({"schemaVersion": 2}, "schemaVersion 2 is not supported"),
    ({"rangeUnc": "1e999"}, "not finite: rangeUnc"),
    ({"azimuth": 400.0}, "out of range: azimuth"),
    ({"elevationUnc": 0}, "out of range: elevationUnc"),
    ({"satNo": 0}, "out of range: satNo"),
    ({"idSensor": "nobody"}, "unknown sensor"),
    ({"satNo": 1}, "unknown object"),
    ({"obTime": "2026-04-01T02:00:00Z"}, "clock ahead"),
    ({"elevation": -4.0}, "direction"),
    ({"range": 99_000.0}, "innovation gate"),
]


def test_the_first_rule_of_the_table_wins() -> None:
    """A record that breaks every rule from some row on is named for that row."""
    for first in range(len(ORDER)):
        change: dict[str, Any] = {}
        for fields, _ in reversed(ORDER[first:]):
            change |= fields
        if ORDER[first][1] == "direction":
            base, _ = one(RADAR)
            change["azimuth"] = (base["azimuth"] + 180.0) % 360.0
        found = verdict(RADAR, change)
        assert found is not None
        assert found[1].startswith(ORDER[first][1])
    assert verdict(RADAR, {}) is None


def test_the_gates_are_the_chi_square_quantiles() -> None:
    wanted = chdtri(np.arange(1, 7), GATE_PROBABILITY)
    assert GATES[1:] == pytest.approx(wanted, rel=1e-12)
