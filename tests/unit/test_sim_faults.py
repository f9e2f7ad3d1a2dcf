"""Injected messages end in the class the truth file names; the good ones are not touched."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import orjson
import pytest

from sda_pipeline.cli.sim.faults import CORRUPTIONS, DISCARDED, FaultMix, corrupted
from sda_pipeline.cli.sim.scene import Scene
from sda_pipeline.cli.sim.timeline import Due, Timeline, messages
from sda_pipeline.cli.sim.traffic import Message
from sda_pipeline.records.observations import TOPICS
from sda_pipeline.records.times import parse_times
from sda_pipeline.settings import ISL, KIND_NAMES, OPTICAL, RADAR
from tests.unit.sim_rig import reduced, scene, span

SPAN = span(30.0, 90.0, rate=100.0, seed=2)
MIX = FaultMix(corrupt=0.1, duplicates=0.05, late=0.03)


@cache
def clean() -> tuple[Message, ...]:
    return tuple(messages(scene(), SPAN))


@cache
def everything() -> list[Due]:
    return mixed_with(MIX)


def mixed_with(mix: FaultMix) -> list[Due]:
    return [due for some in Timeline(scene(), SPAN, mix).drain() for due in some]


def event_ns(message: Message) -> int:
    return int(parse_times([orjson.loads(message.value)["obTime"]])[0][0])


@pytest.mark.parametrize("kind", [RADAR, OPTICAL, ISL], ids=KIND_NAMES.get)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_ends_in_its_class(name: str, kind: int) -> None:
    good = [m for m in clean() if m.topic == TOPICS[kind]][:20]
    bad = [m._replace(value=corrupted(name, kind, m.value, m.timestamp_ms)) for m in good]
    _, batch = reduced(scene(), bad)[kind]
    expected = CORRUPTIONS[name][1]
    assert len(batch.rows) == 0
    if expected == DISCARDED:
        assert len(batch.discarded) == len(good)
    else:
        assert {r.kind for r in batch.rejects} == {expected}
        assert len(batch.rejects) == len(good)
    _, control = reduced(scene(), good)[kind]
    assert len(control.rows) == len(good)


def test_good_messages_are_the_same_with_and_without_faults() -> None:
    mixed = everything()
    assert tuple(d.message for d in mixed if d.fault is None) == clean()
    stamps = [d.message.timestamp_ms for d in mixed]
    assert stamps == sorted(stamps)
    assert mixed_with(MIX) == mixed


def test_fractions_are_kept_and_all_ways_occur() -> None:
    faults = [d.fault for d in everything() if d.fault is not None]
    count = Counter("corrupt" if f.fault in CORRUPTIONS else f.fault for f in faults)
    assert count["corrupt"] == pytest.approx(600, rel=0.2)
    assert count["duplicate"] == pytest.approx(300, rel=0.25)
    assert 0 < count["late"] <= 0.03 * 6000 * 1.3
    assert {f.fault for f in faults} == {*CORRUPTIONS, "duplicate", "late"}


def test_duplicates_repeat_a_message_and_know_their_class() -> None:
    mixed = everything()
    good = {d.message.value: d.message for d in mixed if d.fault is None}
    repeated = [d for d in mixed if d.fault is not None and d.fault.fault == "duplicate"]
    for message, _ in repeated:
        assert 0 <= message.timestamp_ms - good[message.value].timestamp_ms <= 2000
    classes = Counter(d.fault.expected for d in repeated if d.fault)
    assert classes.keys() == {"duplicate", "unpaired"}
    engineered = {s for e in scene().encounters for s in (e.sat1, e.sat2)}
    for message, fault in repeated:
        if fault is not None and fault.expected == "duplicate":
            assert int(message.key) in engineered


def judged_late(of: Scene, mixed: list[Due]) -> set[bytes]:
    """DESIGN 8 with one partition per topic, row by row over what the reduction accepts."""
    late: set[bytes] = set()
    for kind, (mine, batch) in reduced(of, [d.message for d in mixed]).items():
        wait = round(of.event_time.max_lateness_s[KIND_NAMES[kind]] * 1e9)
        allowed = round(of.event_time.allowed_lateness_s * 1e9)
        watermark = -(1 << 62)
        for place, t in zip(batch.index.tolist(), batch.rows["t"].tolist(), strict=True):
            if t < watermark - allowed:
                late.add(mine[place].value)
            else:
                watermark = max(watermark, t - wait)
    return late


def test_late_messages_are_late_and_no_others() -> None:
    mixed = everything()
    expected = {d.message.value for d in mixed if d.fault and d.fault.expected == "late"}
    assert judged_late(scene(), mixed) == expected
    assert judged_late(scene(), [d for d in mixed if d.fault is None]) == set()


def test_without_a_mix_nothing_is_injected() -> None:
    assert all(d.fault is None for d in mixed_with(FaultMix()))


def test_without_a_truth_a_duplicate_s_class_is_left_open() -> None:
    of = scene()._replace(encounters=())
    timeline = Timeline(of, span(30.0, 35.0, rate=100.0), FaultMix(duplicates=0.2))
    found = {d.fault.expected for some in timeline.drain() for d in some if d.fault}
    assert found == {"duplicate or unpaired"}
    assert np.isfinite(of.offsets).all()
