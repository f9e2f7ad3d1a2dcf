"""Kafka misbehaves while traffic flows: nothing is lost and nothing takes effect twice.

Each test asserts what ``verdict.check`` asserts, with the finals of the embedded broker's run;
where the broker itself lost something, that it is counted as missing, exactly, and told.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sda_pipeline.clock import SystemClock
from tests.kafka.kafka_site import (
    KINDS,
    LARGE_BYTES,
    TIMEOUT_S,
    TOPICS,
    Own,
    audit_of,
    discards,
    nothing_unread,
    topic_of,
)
from tests.kafka.kafka_talk import abort, produce
from tests.process.flow import Run
from tests.process.waiting import wait_until
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.process]
GROWING_SPEED = "3"  # 150 s of event time in 50 s
OUTAGE_SHARE = 0.3  # of the traffic comes while the broker is away


def events(run: Run, source: str, name: str) -> list[dict[str, object]]:
    return [event for event in run.site.events(source) if event["event"] == name]


def partitions(run: Run, source: str) -> set[int]:
    """Those that the source has taken up."""
    told = [event["partitions"] for event in events(run, source, "partitions_taken_up")]
    return {partition for found in told if isinstance(found, list) for partition in found}


def all_away(run: Run) -> bool:
    """Every source shows that its broker does not answer."""
    operators = run.operators()
    return all(operators.get(kind, {}).get("step") == "AWAY" for kind in KINDS)


def all_back(run: Run) -> bool:
    """Every source has said so."""
    return all(
        len(events(run, kind, "broker_away")) == len(events(run, kind, "broker_back")) > 0
        for kind in KINDS
    )


def none_died(run: Run) -> None:
    """An outage never ends a source."""
    assert all_back(run)
    assert not any(events(run, kind, "crashed") for kind in KINDS)


# --- outages ------------------------------------------------------------------------------------


def test_the_broker_is_killed_and_restarted(own: Own, undisturbed: dict[str, str]) -> None:
    run = own.run()
    run.play()
    for share in (0.2, 0.6):
        run.wait_for(share, OUTAGE_SHARE)
        own.kafka.kill()
        wait_until(lambda: all_away(run), run.story)
        own.kafka.start()
        wait_until(lambda: all_back(run), run.story)
    lives = {kind: run.site.lives(kind) for kind in KINDS}
    assert set(lives.values()) == {1}, run.story()
    run.finish(undisturbed)
    none_died(run)
    nothing_unread(run.site, own.topics)


def test_the_broker_is_stopped_for_longer_than_every_time_out(
    own: Own, undisturbed: dict[str, str]
) -> None:
    run = own.run()
    run.play()
    run.wait_for(0.3, OUTAGE_SHARE)
    own.kafka.pause()
    clock = SystemClock()
    until = clock.monotonic_ns() + round(4 * TIMEOUT_S * 1e9)
    wait_until(lambda: all_away(run) and clock.monotonic_ns() > until, run.story)
    own.kafka.resume()
    wait_until(lambda: all_back(run), run.story)
    assert {run.site.lives(kind) for kind in KINDS} == {1}, run.story()
    run.finish(undisturbed)
    none_died(run)
    nothing_unread(run.site, own.topics)


def test_a_source_killed_while_the_broker_is_away(own: Own, undisturbed: dict[str, str]) -> None:
    run = own.run()
    run.play()
    run.wait_for(0.3, OUTAGE_SHARE)
    own.kafka.kill()
    wait_until(lambda: all_away(run), run.story)
    run.kill("radar")
    wait_until(lambda: run.site.lives("radar") == 2, run.story)
    wait_until(lambda: all_away(run), run.story)
    own.kafka.start()
    run.finish(undisturbed)
    nothing_unread(run.site, own.topics)


# --- what else may happen to a topic ------------------------------------------------------------


def test_partitions_are_added_amid_the_traffic(
    run: Run, topics: Topics, undisturbed: dict[str, str]
) -> None:
    """The sender uses them when its client has looked again, within half a minute."""
    run.play(speed=GROWING_SPEED)
    run.wait_for(0.05, ahead=1.0)
    topics.grow("sda.obs.radar", 3)
    wait_until(lambda: len(partitions(run, "radar")) == 3, run.story)
    run.finish(undisturbed)
    used = [topics.offsets("sda.obs.radar", partition)[1] for partition in range(3)]
    assert min(used) > 0, "the traffic must outlast its client's look"
    assert audit_of(run.site)["radar"]["read"] == sum(used)


def test_aborted_transactions_leave_gaps(
    run: Run, kafka: KafkaServer, topics: Topics, undisturbed: dict[str, str]
) -> None:
    run.play()
    for share in (0.1, 0.3, 0.5, 0.7):
        run.wait_for(share)
        for topic in TOPICS:
            abort(kafka.client(), topic, [b"never to be seen"] * 50)
    run.finish(undisturbed)
    for kind in KINDS:
        source = audit_of(run.site)[kind]
        assert source["missing"] == 0
        assert source["read"] <= topics.offsets(topic_of(kind))[1] - 4 * 51


def test_messages_larger_than_the_limit(
    run: Run, kafka: KafkaServer, undisturbed: dict[str, str]
) -> None:
    large = {**kafka.client(), "message.max.bytes": str(LARGE_BYTES)}
    run.play()
    for share in (0.2, 0.5):
        run.wait_for(share)
        for topic in TOPICS:
            produce(large, topic, [bytes(200_000), bytes(8_000_000), b"x" * 70_000])
    run.finish(undisturbed)
    audit = audit_of(run.site)
    assert {kind: audit[kind]["discarded"] - discards(run.site, kind) for kind in KINDS} == (
        dict.fromkeys(KINDS, 6)
    )


def test_a_second_pipeline_on_the_same_group(
    run: Run, topics: Topics, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    second = replace(run.site.copy_to(tmp_path / "second"), settings=run.site.settings)
    second.write_topology()
    other = Run(second)
    try:
        run.play()
        run.wait_for(0.4)
        other.kill("radar")
        other.traffic = run.traffic
        run.finish(undisturbed)
        other.finish(undisturbed)
    finally:
        second.clear()
    for site in (run.site, second):
        nothing_unread(site, topics)
    for kind in KINDS:
        assert topics.committed("sda", topic_of(kind)) == topics.offsets(topic_of(kind))[1]
