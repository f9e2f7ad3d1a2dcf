"""What is observed, when, by whom: judged by the pipeline's own reduction."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cache

import numpy as np
import orjson
import pytest

from sda_pipeline.astro.catalogue import prior_sigma
from sda_pipeline.astro.fusion import fuse, prior_information, transport_info, unpack21
from sda_pipeline.astro.trajectory import Trajectory
from sda_pipeline.cli.sim.encoding import Encoder
from sda_pipeline.cli.sim.observing import Shots, measure, predict, sigmas
from sda_pipeline.cli.sim.timeline import messages
from sda_pipeline.cli.sim.traffic import ENGINEERED_HZ, Message
from sda_pipeline.cli.sim.truth import displaced
from sda_pipeline.cli.sim.visibility import Sites, choose_sensors, visible
from sda_pipeline.records.observations import (
    TOPICS,
    Envelope,
    encode_isl,
    encode_optical,
    encode_radar,
)
from sda_pipeline.records.times import format_times, parse_times
from sda_pipeline.settings import ISL, KIND_NAMES, OPTICAL, RADAR
from tests.unit.sim_rig import EPOCH_NS, SECOND, reduced, scene, span


@cache
def minute() -> tuple[Message, ...]:
    return tuple(messages(scene(), span(30.0, 90.0, rate=200.0, seed=7)))


def fields(message: Message) -> dict[str, object]:
    return orjson.loads(message.value)  # type: ignore[no-any-return]


def event_ns(some: list[Message]) -> np.ndarray:
    times, good = parse_times([str(fields(m)["obTime"]) for m in some])
    assert good.all()
    return times


def test_equal_arguments_give_equal_messages() -> None:
    again = tuple(messages(scene(), span(30.0, 90.0, rate=200.0, seed=7)))
    assert again == minute()
    other = tuple(messages(scene(), span(30.0, 90.0, rate=200.0, seed=8)))
    assert not {m.value for m in other} & {m.value for m in minute()}


def test_a_span_may_start_anywhere_in_the_same_traffic() -> None:
    part = [*messages(scene(), span(60.0, 90.0, rate=200.0, seed=7))]
    assert set(part) <= set(minute())
    assert len(part) == 30 * 200


def test_the_rate_is_kept_and_the_order_is_the_broker_s() -> None:
    assert len(minute()) == 60 * 200
    stamps = [m.timestamp_ms for m in minute()]
    assert stamps == sorted(stamps)
    odd = [*messages(scene(), span(30.0, 40.0, rate=33.3))]
    assert len(odd) == 333


def test_latency_stays_within_what_the_pipeline_waits_for() -> None:
    for kind, topic in TOPICS.items():
        some = [m for m in minute() if m.topic == topic]
        latency = np.array([m.timestamp_ms for m in some]) / 1e3 - event_ns(some) / 1e9
        limit = scene().event_time.max_lateness_s[KIND_NAMES[kind]]
        assert latency.min() > -0.01
        assert 0.5 * limit < latency.max() <= limit + 0.01


def test_engineered_objects_are_well_observed_before_their_encounter() -> None:
    seen: dict[int, list[tuple[int, str]]] = defaultdict(list)
    times = event_ns([*minute()])
    for message, t in zip(minute(), times.tolist(), strict=True):
        seen[int(message.key)].append((t, str(fields(message)["idSensor"])))
    ours = [
        e
        for e in scene().encounters
        if e.origin == "engineered" and 62 < (e.tca_ns - EPOCH_NS) / SECOND < 88
    ]
    assert len(ours) > 10
    several, counts = 0, []
    for e in ours:
        for sat in (e.sat1, e.sat2):
            near = [s for t, s in seen[sat] if e.tca_ns - 30 * SECOND <= t <= e.tca_ns]
            counts.append(len(near))
            several += len(set(near)) >= 2
    assert min(counts) >= 30 * ENGINEERED_HZ[0] - 2
    assert np.mean(counts) > 8
    assert several > 0.9 * len(counts)
    kinds = Counter(s[:3] for e in ours for _, s in seen[e.sat1])
    assert kinds.keys() == {"RAD", "OPT", "ISL"}
    assert kinds["RAD"] > kinds["ISL"] > kinds["OPT"]


def test_the_pipeline_accepts_every_observation() -> None:
    dof = {RADAR: 4, OPTICAL: 2, ISL: 6}
    for kind, (mine, batch) in reduced(scene(), minute()).items():
        assert len(mine) > 300
        assert (batch.rejects, batch.discarded) == ([], [])
        ratio = float(batch.rows["nis"].mean()) / dof[kind]
        assert 0.5 < ratio < 1.2  # below 1: offsets are cut at 2 sigma, velocities follow them


def test_without_noise_and_offsets_there_is_no_innovation() -> None:
    """... and with noise, which is the control, there is."""
    quiet = span(30.0, 40.0, rate=200.0, noise_free=True)
    of = scene(on_catalogue=True)
    for _, batch in reduced(of, [*messages(of, quiet)]).values():
        assert batch.rejects == []
        assert float(batch.rows["nis"].max()) < 1e-4
    for _, batch in reduced(of, [*messages(of, span(30.0, 40.0, rate=200.0))]).values():
        assert float(batch.rows["nis"].max()) > 0.1


def test_noise_free_observations_show_where_objects_truly_are() -> None:
    """Fused in information form, they find each object's offset from its elements."""
    of = scene()
    of_one: dict[int, list[np.void]] = defaultdict(list)
    for _, batch in reduced(
        of, [*messages(of, span(30.0, 60.0, rate=400.0, noise_free=True))]
    ).values():
        for row in batch.rows:
            of_one[int(row["sat"])].append(row)
    at = EPOCH_NS + 45 * SECOND
    sigma, errors = prior_sigma(of.catalogue, of.physics), []
    for sat, rows in of_one.items():
        if len(rows) < 12:
            continue
        index = of.catalogue.index(np.array([sat]))
        r, v = Trajectory(of.catalogue).states(index, np.array([at]))
        dt = np.array([(int(row["t"]) - at) / 1e9 for row in rows])
        info, vec = transport_info(
            np.array([row["info"] for row in rows]), np.array([row["vec"] for row in rows]), dt
        )
        prior = prior_information(r, v, sigma[index])
        delta, _ = fuse(prior, unpack21(info.sum(axis=0)[None]), vec.sum(axis=0)[None])
        true = displaced(r, v, of.offsets[index])[0] - r
        errors.append(float(np.linalg.norm(delta[0, :3] - true[0])))
    assert len(errors) > 40
    assert np.median(errors) < 5.0  # of offsets of some 700 m
    assert np.percentile(errors, 90) < 100.0


def test_all_objects_are_observed_without_a_background() -> None:
    every = [*messages(scene(), span(30.0, 60.0, rate=0.0, all_objects=True))]
    counts = Counter(int(m.key) for m in every)
    leo = scene().catalogue.satno[scene().catalogue.leo]
    assert set(leo.tolist()) <= counts.keys()
    assert all(
        30 * ENGINEERED_HZ[0] - 2 <= counts[int(s)] <= 30 * ENGINEERED_HZ[1] + 2 for s in leo
    )


def test_a_kind_without_a_source_observes_nothing() -> None:
    registry = scene().sites.registry
    radar_only = scene()._replace(
        sites=Sites.of(registry, [RADAR]), topics={RADAR: ("radar.a", "radar.b")}
    )
    some = [*messages(radar_only, span(30.0, 35.0, rate=100.0))]
    assert {m.topic for m in some} == {"radar.a", "radar.b"}
    assert len(some) == 500
    of_sensor = {(fields(m)["idSensor"], m.topic) for m in some}
    assert len(of_sensor) == len({sensor for sensor, _ in of_sensor})


def test_sensors_see_what_is_above_their_horizon() -> None:
    of, t = scene(), EPOCH_NS + 60 * SECOND
    r, v = of.catalogue.nodes(t // (5 * SECOND))
    seen = visible(of.sites, r, of.catalogue.leo, np.array([t]), 0.0)
    everyone = np.arange(of.catalogue.n)
    for k in np.flatnonzero(of.sites.kind == RADAR):
        shots = Shots(everyone, np.full(len(r), k), np.full(len(r), t))
        elevation = predict(RADAR, shots, (r, v), of.sites, 0.0)[:, 1]
        assert (seen[k] == (elevation >= 10.0)).all()
    for k in np.flatnonzero(of.sites.kind == ISL):
        assert (seen[k] == of.catalogue.leo).all()
    per_row = visible(of.sites, r, of.catalogue.leo, np.full(len(r), t), 0.0)
    assert (per_row == seen).all()


def test_sensors_are_chosen_among_those_that_see() -> None:
    sites = scene().sites
    rng = np.random.default_rng(1)
    seen = rng.random((len(sites.kind), 5000)) < 0.2
    seen[:, :100] = False
    chosen = choose_sensors(seen, sites, rng.random(5000))
    assert (chosen[:100] == -1).all()
    rows = np.flatnonzero(chosen >= 0)
    assert len(rows) > 4800
    assert seen[chosen[rows], rows].all()


def test_noise_has_the_sensor_s_sigma() -> None:
    of, count = scene(), 4000
    for kind, object_kind in ((RADAR, "RAD-ALPS"), (OPTICAL, "OPT-MAUI"), (ISL, "ISL-A1")):
        sensor = of.sites.registry.index(object_kind)
        shots = Shots(np.zeros(count, np.int64), np.full(count, sensor), np.full(count, EPOCH_NS))
        r = np.tile([7.0e6, 1.0e6, 5.0e5], (count, 1))
        v = np.tile([0.0, 7.0e3, 1.0e3], (count, 1))
        rng = np.random.default_rng(2)
        noisy, stamp = measure(kind, shots, (r, v), of.sites, 0.0, rng=rng)
        exact = predict(kind, shots, (r, v), of.sites, 0.0)
        scaled = (noisy - exact) / sigmas(kind, shots.sensor, of.sites)
        if kind == OPTICAL:
            scaled[:, 0] *= np.cos(np.radians(exact[:, 1]))
        assert scaled.std(axis=0) == pytest.approx(1.0, abs=0.05)
        clock = of.sites.registry.column("time_sigma_s")[sensor]
        assert (stamp - EPOCH_NS).std() / 1e9 == pytest.approx(clock, rel=0.05)


def test_the_encoder_writes_what_the_format_s_own_encoders_write() -> None:
    of = scene()
    encoder = Encoder(of.sites, of.catalogue.satno.tolist())
    rng = np.random.default_rng(3)
    index = np.arange(30) % of.catalogue.n
    t = EPOCH_NS + rng.integers(0, 10**9, 30)
    ids = [f"{k:08x}-0000-4000-a000-000000000000" for k in range(30)]
    r, v = of.catalogue.nodes(EPOCH_NS // (5 * SECOND))
    for kind in (RADAR, OPTICAL, ISL):
        choices = np.flatnonzero(of.sites.kind == kind)
        shots = Shots(index, choices[np.arange(30) % len(choices)], t)
        columns, stamp = measure(kind, shots, (r[index], v[index]), of.sites, 0.0, rng=None)
        for row, text, value in zip(
            columns.tolist(),
            format_times(stamp),
            encoder.encode(kind, shots, columns, stamp, ids),
            strict=True,
        ):
            said = orjson.loads(value)
            envelope = Envelope(said["id"], said["satNo"], said["idSensor"], text)
            extra = {k: x for k, x in said.items() if k.endswith("Unc")}
            if kind == RADAR:
                assert value == encode_radar(envelope, *row, optional=extra)
            elif kind == OPTICAL:
                assert value == encode_optical(envelope, *row, optional=extra)
            else:
                position, velocity = row[:3], row[3:]
                if said["referenceFrame"] == "J2000":
                    position = [said[k] for k in ("xpos", "ypos", "zpos")]
                    velocity = [said[k] for k in ("xvel", "yvel", "zvel")]
                    assert np.linalg.norm(position) == pytest.approx(np.linalg.norm(row[:3]))
                frame, cov = said["referenceFrame"], said.get("cov")
                assert value == encode_isl(
                    envelope, position, velocity, frame=frame, cov=cov, optional=extra
                )
