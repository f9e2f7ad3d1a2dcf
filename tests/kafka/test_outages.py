"""More outages of the real Kafka: of one leader of three, one in real time with idle markers on,
and a stop amid one.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import orjson
import pytest

from sda_pipeline.clock import SystemClock
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.log.source_log import read_log
from sda_pipeline.records.frames import KIND_IDLE
from sda_pipeline.settings import EventTime
from tests.kafka.kafka_site import KINDS, TOPICS, Own, audit_of, nothing_unread, topic_of
from tests.kafka.test_misbehaviour import all_away, all_back, events, none_died
from tests.process import verdict
from tests.process.flow import WHOLE, Run
from tests.process.player import Player
from tests.process.site import RECORDED_S, Site
from tests.process.waiting import wait_until
from tests.servers.kafka_topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.process]
IDLE_AFTER_S = 2.0
AFTER_S = 5.0  # of event time after the outage
# So long an outage, taken for idleness, moves event time past what was sent in its first seconds.
OUTAGE_S = IDLE_AFTER_S + EventTime().allowed_lateness_s + 6.0
STOP_WITHIN_S = 20.0


def test_the_leader_of_three_is_killed_under_load(
    own_three: Own, undisturbed: dict[str, str]
) -> None:
    """Of each topic once: the other two go on with it, while it is away."""
    run = own_three.run()
    run.play()
    for kind, share in zip(KINDS, (0.15, 0.4, 0.65), strict=True):
        run.wait_for(share)
        leader = own_three.topics.leaders(topic_of(kind))[0]
        own_three.kafka.kill(leader)
        run.wait_for(share + 0.1)
        others = {own_three.topics.leaders(topic)[0] for topic in TOPICS}
        assert leader not in others
        own_three.kafka.start([leader])
    assert {run.site.lives(kind) for kind in KINDS} == {1}
    run.finish(undisturbed)
    nothing_unread(run.site, own_three.topics)


def test_the_pipeline_is_stopped_while_the_broker_is_away(
    own: Own, undisturbed: dict[str, str]
) -> None:
    """It does not wait for it, and the next start goes on."""
    run = own.run()
    run.play()
    run.wait_for(0.3, ahead=0.3)
    own.kafka.kill()
    wait_until(lambda: all_away(run), run.story)
    clock = SystemClock()
    began = clock.monotonic_ns()
    run.stop()
    assert clock.monotonic_ns() - began < STOP_WITHIN_S * SECOND_NS
    assert not any(events(run, kind, "broker_back") for kind in KINDS)
    own.kafka.start()
    run.start()
    run.finish(undisturbed)
    assert {run.site.lives(kind) for kind in KINDS} == {3}, "two, and one to finish"
    nothing_unread(run.site, own.topics)


# --- an outage is not idleness ------------------------------------------------------------------


def reference_of(prepared: Site, root: Path, topics: Topics) -> Site:
    """An undisturbed run of what the topics hold: so much of the recording's beginning."""
    left = {topic: topics.offsets(topic)[1] for topic in TOPICS}
    site = prepared.copy_to(root, without="broker")
    kept = []
    for line in (site.root / WHOLE).read_bytes().splitlines(keepends=True):
        topic = orjson.loads(line)["topic"]
        left[topic] -= 1
        if left[topic] >= 0:
            kept.append(line)
    (site.root / WHOLE).write_bytes(b"".join(kept))
    site.fill()
    site.finish()
    return site


def classes(site: Site) -> dict[str, dict[str, int]]:
    """By source, what the audit says of records themselves."""
    names = ("read", "late", "rejected", "discarded", "missing")
    return {kind: {name: found[name] for name in names} for kind, found in audit_of(site).items()}


def idle_markers(site: Site) -> Counter[str]:
    return Counter(
        kind
        for kind in KINDS
        for record in read_log(site.state / "log" / kind).records(1)
        if record.header.kind == KIND_IDLE
    )


def test_an_outage_longer_than_idle_after_makes_nothing_late(
    own: Own, prepared: Site, tmp_path: Path
) -> None:
    """In real time, with idle markers on; the finals and the late ones are those of an undisturbed
    run of the same input. The backlog is of the time when nothing was idle.
    """
    player = Player(own.site, WHOLE, 1.0, float("inf"))
    try:
        wait_until(lambda: all(own.topics.offsets(topic)[1] > 5 for topic in TOPICS), str)
        run = Run(own.site, speed="1", event_time={"idle_after": IDLE_AFTER_S})
        own.runs.append(run)
        wait_until(run.caught_up, run.story)
        before = idle_markers(run.site)
        own.kafka.pause()
        clock = SystemClock()
        until = clock.monotonic_ns() + round(OUTAGE_S * SECOND_NS)
        wait_until(lambda: all_away(run) and clock.monotonic_ns() > until, run.story)
        assert idle_markers(run.site) == before
        own.kafka.resume()
        wait_until(lambda: all_back(run) and run.caught_up(), run.story)
        share = run.share() + AFTER_S / RECORDED_S
        wait_until(lambda: run.share() > share, run.story)
    finally:
        player.kill()
    wait_until(lambda: idle_markers(run.site).keys() == {*KINDS}, run.story)
    run.stop()
    run.site.finish()
    none_died(run)
    nothing_unread(run.site, own.topics)
    reference = reference_of(prepared, tmp_path / "reference", own.topics)
    finals = verdict.finals(reference)
    assert len(finals) > 1
    verdict.check(run.site, finals)
    assert classes(run.site) == classes(reference)
