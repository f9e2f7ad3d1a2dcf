"""The benchmark's baseline does the same work: same messages, same finals as the fast core.

In one process: reduction, lateness and correlation as the operators call them, without these.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from operators.core.batch import Source, build_frame, settle
from operators.core.correlation import Correlation
from operators.core.reduction import Reducer
from operators.core.step_effects import Effects
from operators.core.watermark import EventClock
from sda_pipeline.astro.trajectory import Trajectory
from sda_pipeline.broker.port import Batch
from sda_pipeline.limits import SECOND_NS, TIME_END_NS
from sda_pipeline.records.frames import KIND_END, KIND_ROWS, parse_payload
from sda_pipeline.records.observations import TOPICS
from sda_pipeline.settings import KIND_NAMES, Physics
from tests.property.correlator_rig import EVENT_TIME, HASH, SOURCES
from tests.property.message_rig import messages, sensors
from tests.property.scene_rig import scene
from tests.reference.agreement import disagreements
from tests.reference.per_event import Message, PerEvent, run
from tests.reference.slow_correlator import Evaluation

PHYSICS = Physics(watch_km=5.0)
# Both start from JSON here: their reductions agree to 1e-8 sigma, a small Pc multiplies that.
RELATIVE = 1e-6


def fast(sent: list[Message]) -> tuple[dict[str, dict[str, Any]], Correlation, int]:
    """Finals of the fast core, each source's messages in one batch; how many rows were late."""
    at, late = scene(), 0
    core = Correlation(at.catalogue, PHYSICS, EVENT_TIME, SOURCES, HASH)
    effects = Effects()
    for number, (kind, topic) in enumerate(TOPICS.items()):
        own = [message for message in sent if message[0] == topic]
        batch = Batch(
            np.zeros(len(own), np.int32),
            np.array([m[4] for m in own], np.int64),
            np.array([m[2] for m in own], np.int64),
            [b""] * len(own),
            [m[1] for m in own],
            [],
        )
        reducer = Reducer(kind, at.catalogue, Trajectory(at.catalogue), sensors(), PHYSICS)
        reduced = reducer.reduce(batch.values, batch.timestamps_ms)
        source = KIND_NAMES[kind]
        allowed = round(EVENT_TIME.allowed_lateness_s * SECOND_NS)
        clock = EventClock(round(EVENT_TIME.max_lateness_s[source] * SECOND_NS), allowed)
        clock.add(0)
        rows, counts = settle(batch, reduced, clock, 0)
        late += counts.late
        about = Source(number, kind, HASH, never_shed=True)
        for position, built in enumerate(
            (
                build_frame(about, KIND_ROWS, 1, clock.source_watermark(), 0, (), counts, rows),
                build_frame(about, KIND_END, 2, TIME_END_NS, 0, (), counts),
            ),
            1,
        ):
            assert built.header.position == position
            core.apply([(source, parse_payload(built.header, built.payload))], effects)
    core.evaluate(1, 0, effects)
    records = [r for entry in effects.emitted if not isinstance(entry, int) for r in entry]
    return {r["alert_id"]: r for r in records if r["action"] == "insert"}, core, late


@pytest.mark.parametrize("seed", [1, 2])
def test_the_baseline_finds_the_same_finals(seed: int) -> None:
    sent = messages(seed, 240)
    found, events = run(sent, scene().catalogue, sensors(), PHYSICS, EVENT_TIME)
    expected, core, late = fast(sent)
    assert events == len(sent)
    assert found.keys() == expected.keys()
    assert len(found) >= 4
    for name, record in found.items():
        slow = Evaluation(record["pane"], record["level"], record["pc"], 0.0, record, 0)
        assert disagreements(expected[name], slow, RELATIVE) == []
    loop = PerEvent(scene().catalogue, sensors(), PHYSICS, EVENT_TIME)
    for topic, value, timestamp_ms, partition, offset in sent:
        kind = next(kind for kind, named in TOPICS.items() if named == topic)
        loop.take(kind, value, timestamp_ms, partition, offset)
    for name in ("applied", "duplicate", "unpaired"):
        assert loop.counts[name] == sum(getattr(p, name) for p in core.positions.values())
    assert loop.counts["late"] == late
    assert loop.counts["duplicate"] > 0
