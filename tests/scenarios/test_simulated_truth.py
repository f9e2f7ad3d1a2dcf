"""The simulator tells the truth: its truth file and its observations, computed again another way.

Encounters from the printed elements by true_world.py; exact observations by a forward model of
scalar trigonometry (tests/reference); expected levels by sending exactly the observations that the
truth file names through the whole chain of operators.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pytest

from sda_pipeline.cli.sim.default_sensors import default_registry
from sda_pipeline.cli.sim.expectation import BEFORE_S
from sda_pipeline.cli.sim.population import Synthetic, synthesize
from sda_pipeline.cli.sim.scene import Scene, make_scene
from sda_pipeline.cli.sim.timeline import messages
from sda_pipeline.cli.sim.traffic import Message, Options
from sda_pipeline.cli.sim.truth import NO_LEVEL, Encounter
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.observations import (
    TOPICS,
    Envelope,
    encode_isl,
    encode_optical,
    encode_radar,
)
from sda_pipeline.records.times import format_time, parse_times
from sda_pipeline.sensors import SensorRegistry
from sda_pipeline.settings import ISL, OPTICAL, RADAR, EventTime, Physics
from tests.reference.slow_geometry import dot, j2000_to_teme, site, sub, times
from tests.scenarios.inline_pipeline import World, play
from tests.scenarios.true_world import TrueWorld

EPOCH_NS = 1_775_001_600_000_000_000
PHYSICS = Physics()
SCHEDULED_M = 1e3 * (PHYSICS.screening_km + PHYSICS.margin_km)


@cache
def registry() -> SensorRegistry:
    return default_registry()


@cache
def made() -> Synthetic:
    return synthesize(5, EPOCH_NS, 260, sensors=registry(), minutes=2.0, per_minute=40.0)


@cache
def scene() -> Scene:
    return make_scene(made().elements, registry(), made().truth)


@cache
def true_world() -> TrueWorld:
    return TrueWorld(made().elements, made().truth.offsets)


@cache
def on_elements() -> TrueWorld:
    """Another truth, for controls: every object keeps to its elements."""
    return TrueWorld(made().elements)


def engineered() -> list[Encounter]:
    return [e for e in made().truth.encounters if e.origin == "engineered"]


# --- encounters -----------------------------------------------------------------------------


def test_it_lists_every_encounter_of_the_catalogue() -> None:
    """All pairs, by steps over SGP4 positions: the same pairs at the same times and distances."""
    first, last = EPOCH_NS, made().truth.ends_ns
    found = on_elements().search(first, last, SCHEDULED_M)
    listed = {(e.sat1, e.sat2): e for e in made().truth.encounters if first <= e.tca_cat_ns < last}
    assert len(listed) >= 80
    assert listed.keys() == found.keys()
    for pair, e in listed.items():
        assert abs(e.tca_cat_ns - found[pair].tca_ns) < 1_000_000
        assert e.miss_cat_m == pytest.approx(found[pair].miss_m, abs=0.1)


def worst_passage(world: TrueWorld) -> tuple[float, float, float]:
    """Largest disagreement of the truth file with a world's passages: ms, m, m/s."""
    off = []
    for e in made().truth.encounters:
        real = world.passage(e.sat1, e.sat2, e.tca_cat_ns)
        off.append((
            abs(e.tca_ns - real.tca_ns) / 1e6, abs(e.miss_m - real.miss_m),
            abs(e.rel_speed_m_s - real.speed_m_s),
        ))  # fmt: skip
    ms, metres, speed = np.max(off, axis=0).tolist()
    return ms, metres, speed


def test_passages_are_those_of_the_rounded_elements() -> None:
    ms, metres, speed = worst_passage(true_world())
    print(f"worst of {len(made().truth.encounters)}: {ms:.2g} ms, {metres:.2g} m, {speed:.2g} m/s")
    assert ms < 0.1
    assert metres < 0.01
    assert speed < 0.5  # SGP4's velocity is not quite the derivative of its position


def test_passages_of_another_truth_would_show() -> None:
    """The control."""
    ms, metres, _ = worst_passage(on_elements())
    assert ms > 50.0
    assert metres > 500.0


# --- observations ---------------------------------------------------------------------------


def looks(world: TrueWorld, satno: int, sensor: str, t_ns: int) -> list[float]:
    """The exact measurement in wire units, by scalar SGP4 and trigonometry."""
    r, v = (tuple(part.tolist()) for part in world.state(satno, t_ns))
    one = registry().sensors[registry().index(sensor)]
    if one.kind == ISL:
        return [x / 1e3 for x in (*r, *v)]
    place, moving, east, north, up = site(t_ns, one.lat, one.lon, one.alt_m, PHYSICS.dut1_s)
    d, dv = sub(r, place), sub(v, moving)
    distance = math.sqrt(dot(d, d))
    if one.kind == RADAR:
        azimuth = math.degrees(math.atan2(dot(d, east), dot(d, north))) % 360.0
        elevation = math.degrees(math.asin(dot(d, up) / distance))
        return [azimuth, elevation, distance / 1e3, dot(d, dv) / distance / 1e3]
    x, y, z = times(tuple(zip(*j2000_to_teme(t_ns), strict=True)), d)  # type: ignore[arg-type]
    return [math.degrees(math.atan2(y, x)) % 360.0, math.degrees(math.asin(z / distance))]


def reported(fields: dict[str, object], kind: int, t_ns: int) -> list[float]:
    names = {
        RADAR: ("azimuth", "elevation", "range", "rangeRate"),
        OPTICAL: ("ra", "declination"),
        ISL: ("xpos", "ypos", "zpos", "xvel", "yvel", "zvel"),
    }[kind]
    values = [float(fields[name]) for name in names]  # type: ignore[arg-type]
    if fields.get("referenceFrame") == "J2000":
        turn = j2000_to_teme(t_ns)
        values = [*times(turn, tuple(values[:3])), *times(turn, tuple(values[3:]))]  # type: ignore[arg-type]
    return values


def test_noise_free_observations_are_where_the_objects_truly_are() -> None:
    """To a centimetre: Lagrange between SGP4's nodes is half a millimetre off (SPEC 2)."""
    start = EPOCH_NS + 30 * SECOND_NS
    options = Options(
        seed=5, rate=120.0, start_ns=start, end_ns=start + 10 * SECOND_NS, noise_free=True
    )
    worst = dict.fromkeys(TOPICS, 0.0)
    kinds = {topic: kind for kind, topic in TOPICS.items()}
    for message in messages(scene(), options):
        kind, fields = kinds[message.topic], orjson.loads(message.value)
        t_ns = int(parse_times([fields["obTime"]])[0][0])
        seen = np.array(reported(fields, kind, t_ns))
        off = seen - np.array(looks(true_world(), int(message.key), fields["idSensor"], t_ns))
        if kind != ISL:
            distance_m = 5e5  # nobody is nearer: an angle's error in metres there
            off[0] = (off[0] + 180.0) % 360.0 - 180.0
            off[0] *= math.cos(math.radians(seen[1]))
            off[:2] = np.radians(off[:2]) * distance_m / 1e3
        worst[kind] = max(worst[kind], float(np.abs(off).max()) * 1e3)
    print("worst, m or m/s:", {TOPICS[kind]: f"{m:.2g}" for kind, m in worst.items()})
    assert all(0.0 < m < 0.01 for m in worst.values())


# --- expected levels ------------------------------------------------------------------------


def named_observations(e: Encounter, world: TrueWorld, number: Iterator[int]) -> Iterator[Message]:
    """The twelve observations the expectation rests on, exact, as messages."""
    for place, sensor in enumerate(e.observers):
        satno = (e.sat1, e.sat2)[place // len(BEFORE_S)]
        t_ns = e.tca_cat_ns - round(BEFORE_S[place % len(BEFORE_S)] * SECOND_NS)
        envelope = Envelope(str(UUID(int=next(number))), satno, sensor, format_time(t_ns))
        kind = int(registry().sensors[registry().index(sensor)].kind)
        seen = looks(world, satno, sensor, t_ns)
        if kind == RADAR:
            value = encode_radar(envelope, *seen)
        elif kind == OPTICAL:
            value = encode_optical(envelope, *seen)
        else:
            value = encode_isl(envelope, seen[:3], seen[3:])
        yield Message(TOPICS[kind], str(satno).encode(), value, -(-t_ns // 1_000_000))


def finals_in(world: TrueWorld) -> dict[str, dict[str, Any]]:
    """What the chain of operators makes of the named observations of every encounter."""
    number = iter(range(10**6))
    sent = [m for e in engineered() for m in named_observations(e, world, number)]
    sent.sort(key=lambda m: m.timestamp_ms)
    settings = World(scene().catalogue, registry(), PHYSICS, EventTime(idle_after_s=None))
    return play(settings, sent)


def level_in(finals: dict[str, dict[str, Any]], e: Encounter) -> str:
    return str(finals[e.alert_id]["level"]) if e.alert_id in finals else NO_LEVEL


def test_expected_levels_are_what_the_pipeline_makes_of_those_observations() -> None:
    finals = finals_in(true_world())
    assert all(len(e.observers) == 2 * len(BEFORE_S) and all(e.observers) for e in engineered())
    assert {e.expected_level for e in engineered()} == {"RED", "YELLOW", NO_LEVEL}
    for e in engineered():
        assert level_in(finals, e) == e.expected_level, e
        if e.alert_id in finals:
            final = finals[e.alert_id]
            assert (final["n_obs1"], final["n_obs2"]) == (6, 6)
            assert final["pc"] == pytest.approx(e.expected_pc, rel=1e-4)


def test_levels_of_another_truth_would_show() -> None:
    """The control."""
    finals = finals_in(on_elements())
    assert sum(level_in(finals, e) != e.expected_level for e in engineered()) > 20
