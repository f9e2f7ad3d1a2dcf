"""Messages about the scene's objects as producers would send them: three kinds, noisy."""

from __future__ import annotations

from uuid import UUID

import numpy as np

from sda_pipeline.astro.measurement import predict_optical, predict_radar
from sda_pipeline.astro.reference import j2000_to_teme_for, pane_of, site_teme
from sda_pipeline.astro.trajectory import Trajectory
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.observations import (
    TOPICS,
    Envelope,
    encode_isl,
    encode_optical,
    encode_radar,
)
from sda_pipeline.records.times import format_time
from sda_pipeline.sensors import SensorRegistry, parse_sensors
from sda_pipeline.settings import ISL, OPTICAL, RADAR
from tests.property.scene_rig import SPAN_S, T0_NS, scene
from tests.reference.per_event import Message

SITES = [(lat, lon) for lat in (-70, -40, -10, 10, 40, 70) for lon in range(-180, 180, 40)]


def sensors() -> SensorRegistry:
    """A grid of radars and telescopes, so that something always sees an object; one link."""
    entries: dict[str, dict[str, object]] = {
        "isl": {"kind": "isl", "pos_unc": 0.05, "vel_unc": 2e-4}
    }
    for lat, lon in SITES:
        place = {"lat": lat, "lon": lon, "alt_m": 100}
        entries[f"R{lat}/{lon}"] = {
            "kind": "radar", **place, "azimuth_unc": 0.01, "elevation_unc": 0.01, "range_unc": 0.02,
            "range_rate_unc": 2e-4,
        }  # fmt: skip
        entries[f"T{lat}/{lon}"] = {
            "kind": "optical", **place, "ra_unc": 0.003, "declination_unc": 0.003,
        }  # fmt: skip
    return parse_sensors({"sensors": entries})


def messages(seed: int, count: int) -> list[Message]:
    """About ``count`` messages in order of arrival; one in ten is sent twice, a few come late."""
    rng = np.random.default_rng(seed)
    at, registry = scene(), sensors()
    index = rng.choice(at.busy, count)
    t = T0_NS + (rng.uniform(*SPAN_S, count) * SECOND_NS).astype(np.int64)
    r, v = Trajectory(at.catalogue).states(index, t)
    offset = rng.standard_normal((at.catalogue.n, 3)) * 60.0
    sent: list[tuple[int, str, bytes]] = []
    for k in range(count):
        kind = int(rng.choice([RADAR, OPTICAL, ISL]))
        state = (r[k : k + 1] + offset[index[k]], v[k : k + 1])
        value = _observe(
            rng, kind, registry, t[k : k + 1], state, int(at.catalogue.satno[index[k]])
        )
        if value is None:
            continue
        for _ in range(1 + int(rng.random() < 0.1)):
            delay = rng.uniform(0.0, 4.0) if rng.random() < 0.97 else 45.0
            sent.append((int(t[k] + delay * SECOND_NS), TOPICS[kind], value))
    sent.sort()
    taken = dict.fromkeys(TOPICS.values(), 0)
    found = []
    for arrival, topic, value in sent:
        found.append((topic, value, arrival // 1_000_000, 0, taken[topic]))
        taken[topic] += 1
    return found


def _observe(
    rng: np.random.Generator,
    kind: int,
    registry: SensorRegistry,
    t: np.ndarray,
    state: tuple[np.ndarray, np.ndarray],
    satno: int,
) -> bytes | None:
    """One observation by whoever sees the object best; None when nobody does."""
    r, v = state
    name = UUID(bytes=rng.bytes(16))
    noise = rng.standard_normal(6)
    if kind == ISL:
        envelope = Envelope(str(name), satno, "isl", format_time(int(t[0])))
        return encode_isl(
            envelope,
            (r[0] / 1000.0 + 0.05 * noise[:3]).tolist(),
            (v[0] / 1000.0 + 2e-4 * noise[3:]).tolist(),
        )
    own = registry.of_kind(kind)
    places = (registry.column(column)[own] for column in ("lat", "lon", "alt_m"))
    site = site_teme(np.repeat(t, len(own)), *places, 0.0)
    az, el, distance, rate = predict_radar(
        np.repeat(r, len(own), 0), np.repeat(v, len(own), 0), site
    )
    best = int(np.argmax(el))
    if el[best] < 8.0:
        return None
    envelope = Envelope(str(name), satno, registry.ids[own[best]], format_time(int(t[0])))
    if kind == RADAR:
        return encode_radar(
            envelope, float(az[best] + 0.01 * noise[0]), float(el[best] + 0.01 * noise[1]),
            float(distance[best] / 1000.0 + 0.02 * noise[2]),
            float(rate[best] / 1000.0 + 2e-4 * noise[3]),
        )  # fmt: skip
    one = type(site)(*(column[best : best + 1] for column in site))
    ra, dec = predict_optical(r, v, one, j2000_to_teme_for(pane_of(t)))
    return encode_optical(
        envelope, float(ra[0] + 0.003 * noise[0]), float(dec[0] + 0.003 * noise[1])
    )
