"""What waits at the broker before a re-injected record, and in which partition the record lands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from operators.core.batch import Source, build_frame
from sda_pipeline.broker.connect import open_consumer, open_producer
from sda_pipeline.broker.kafka_settings import KafkaSettings
from sda_pipeline.broker.port import OutMessage
from sda_pipeline.cli.reprocess import broker_front
from sda_pipeline.cli.reprocess.broker_front import Front, look_ahead
from sda_pipeline.cli.reprocess.key_partition import leads_to, murmur2
from sda_pipeline.cli.reprocess.pipeline_place import Place, find
from sda_pipeline.cli.reprocess.reprocess_commands import Plan, RunOptions, make_plan
from sda_pipeline.clock import ManualClock, SystemClock
from sda_pipeline.dlq.entry import Entry
from sda_pipeline.dlq.filters import Filters
from sda_pipeline.dlq.redrive import Verdict
from sda_pipeline.errors import SdaError
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.log.source_log import LogStart, SourceLog
from sda_pipeline.records.frames import KIND_ROWS, Counts, Part
from tests.unit.redrive_rig import T0, TOPIC, entry, write_site

PARTITIONS = 3
CLOCK = SystemClock()


def place_of(root: Path, entries: Sequence[Entry], messages: int) -> Place:
    """A site whose radar topic has three partitions with so many messages by key "0", "1"..."""
    write_site(root, [*entries])
    place = find(root / "state", None)
    producer = open_producer(place.topology.broker)
    producer.create_topic(TOPIC, PARTITIONS)
    producer.produce(TOPIC, [OutMessage(b"%d" % k, b"{}", 1) for k in range(messages)])
    producer.close()
    return place


def write_log(place: Place, parts: tuple[Part, ...]) -> None:
    """A radar log that stands so."""
    lowest = min(part.watermark for part in parts)
    with SourceLog.open(place.log("radar"), 0, LogStart(7, 1)) as log:
        source = Source(0, 7, 1, never_shed=False)
        built = build_frame(source, KIND_ROWS, 1, lowest, 0, parts, Counts())
        log.append(built.header, built.payload, b"")
        log.sync()


def ends_of(place: Place) -> dict[int, int]:
    """Of a topic that begins at 0 and of which nothing was committed."""
    consumer = open_consumer(place.topology.broker, TOPIC, "a-test", 1)
    found = consumer.lag()
    consumer.close()
    return found


def planned(place: Place) -> Plan:
    return make_plan(place, Filters(), RunOptions(dry_run=True), [], CLOCK)


def parts_at(place: Place, offsets: dict[int, int], **changes: int) -> tuple[Part, ...]:
    consumer = open_consumer(place.topology.broker, TOPIC, "a-test", 1)
    lives = {partition: consumer.generation(partition) for partition in offsets}
    consumer.close()
    return tuple(
        Part(p, changes.get("generation", lives[p]), at, changes.get("watermark", T0))
        for p, at in offsets.items()
    )


def test_what_the_log_has_not_is_waiting(tmp_path: Path) -> None:
    place = place_of(tmp_path, [entry(1)], 40)
    ends = ends_of(place)
    assert min(ends.values()) > 5
    behind = parts_at(place, {p: end - 2 for p, end in ends.items()})
    assert look_ahead(place, {"radar": behind}, CLOCK) == {"radar": Front(PARTITIONS, 6)}
    level = parts_at(place, ends)
    assert look_ahead(place, {"radar": level}, CLOCK) == {"radar": Front(PARTITIONS, 0)}
    unknown = level[:2]  # a partition that the log has never seen waits as a whole
    assert look_ahead(place, {"radar": unknown}, CLOCK)["radar"].waiting == ends[2]
    other = parts_at(place, ends, generation=99)
    assert look_ahead(place, {"radar": other}, CLOCK)["radar"].waiting == sum(ends.values())
    assert look_ahead(place, {"radar": ()}, CLOCK)["radar"].waiting == sum(ends.values())


def test_the_plan_says_so(tmp_path: Path) -> None:
    place = place_of(tmp_path, [entry(1)], 40)
    write_log(place, parts_at(place, {p: end - 1 for p, end in ends_of(place).items()}))
    plan = planned(place)
    assert plan.summary["waiting"] == {"radar": 3}
    assert "warning: up to 3 messages wait at the broker before them for radar" in plan.text
    assert plan.record(0, dry_run=True)["summary"]["waiting"] == {"radar": 3}


def test_a_broker_that_does_not_answer_is_no_reason_not_to_look(tmp_path: Path) -> None:
    place = place_of(tmp_path, [entry(1), entry(5, operator="optical", topic="sda.obs.optical")], 1)
    away = replace(
        place.topology, broker="kafka://127.0.0.1:1", kafka=KafkaSettings(timeout_s=0.2)
    )  # fmt: skip
    plan = planned(Place(away))
    assert plan.summary["waiting"] == {"radar": None, "optical": None}
    assert plan.text.count("it is not known how much waits at the broker") == 2
    assert "Kafka at 127.0.0.1:1 does not answer" in plan.text
    assert plan.summary["sends"] == 2


def test_what_is_wrong_with_one_topic_says_nothing_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, asked, clock = place_of(tmp_path, [], 1), [], ManualClock()

    def consumer(_: str, topic: str, *__: object, **___: object) -> None:
        asked.append(topic)
        clock.sleep(0.0 if topic == TOPIC else 3.0)
        raise SdaError("ask", f"{topic} is away")

    monkeypatch.setattr(broker_front, "open_consumer", consumer)
    found = look_ahead(place, dict.fromkeys(("radar", "optical", "isl"), ()), clock)
    assert asked == [TOPIC, "sda.obs.optical"], "it kept us waiting: not asked a third time"
    assert [front.why for front in found.values()] == [
        f"{TOPIC} is away", "sda.obs.optical is away", "sda.obs.optical is away"
    ]  # fmt: skip


def test_a_broker_that_was_never_made_holds_nothing(tmp_path: Path) -> None:
    place = place_of(tmp_path, [entry(1)], 1)
    nowhere = replace(place.topology, broker=f"embedded:{tmp_path / 'none'}")
    assert planned(Place(nowhere)).summary["waiting"] == {"radar": 0}
    assert not (tmp_path / "none").exists()


def test_lateness_is_told_for_the_partition_the_key_leads_to(tmp_path: Path) -> None:
    """The record came from partition 0, by a sender with a partitioner of its own."""
    url = "embedded:any"
    elsewhere = next(k for k in range(1, 50) if leads_to(url, b"%d" % (1000 + k), PARTITIONS) == 2)
    stays = next(k for k in range(1, 50) if leads_to(url, b"%d" % (1000 + k), PARTITIONS) == 0)
    place = place_of(tmp_path, [entry(elsewhere), entry(stays)], 40)
    ends = ends_of(place)
    late = T0 + 100 * SECOND_NS
    parts = parts_at(place, ends)
    write_log(place, tuple(p._replace(watermark=late if p.partition == 2 else T0) for p in parts))
    plan = planned(place)
    verdicts = {o.entry.offset: (o.verdict, o.facts.partition) for o in plan.outcomes}
    assert verdicts == {elsewhere: (Verdict.LATE, 2), stays: (Verdict.REINJECT, 0)}
    assert [w for w in plan.summary["warnings"] if w.startswith("the keys of 1 lead to another")]


def test_the_embedded_broker_puts_a_key_where_it_is_told_to_lead(tmp_path: Path) -> None:
    place = place_of(tmp_path, [], 40)
    consumer = open_consumer(place.topology.broker, TOPIC, "a-test", 1)
    batch = consumer.consume(100, 1 << 20, 0.0)
    consumer.close()
    told = [leads_to(place.topology.broker, key, PARTITIONS) for key in batch.keys]
    assert told == batch.partitions.tolist()
    assert len(told) == 40


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_kafka(key: bytes, expected: int) -> None:
    """The vectors of Apache Kafka's own UtilsTest."""
    assert murmur2(key) == expected % 2**32
