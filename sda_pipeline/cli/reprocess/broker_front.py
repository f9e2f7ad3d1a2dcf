"""What comes before whatever is sent now: messages a source has not logged yet. Read-only.

A verdict rests on the sources' logs. What still waits at the broker is judged before a message that
is sent now, and may move a watermark past it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sda_pipeline.broker.connect import EMBEDDED, open_consumer
from sda_pipeline.broker.port import Consumer
from sda_pipeline.cli.reprocess.pipeline_place import Place
from sda_pipeline.clock import Clock
from sda_pipeline.errors import SdaError
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.frames import Part
from sda_pipeline.records.generations import life_of

QUICK_NS = SECOND_NS // 10  # an answer, even if it is a refusal, comes faster than this


class Front(NamedTuple):
    """A source's topic at the broker; ``why`` says why nothing is known of it."""

    partitions: int | None = None
    waiting: int | None = None  # offsets the source's log is behind: at most so many messages
    why: str = ""


def look_ahead(
    place: Place, stands: Mapping[str, Sequence[Part]], clock: Clock
) -> dict[str, Front]:
    """By source, from where its log stands. A broker that kept us waiting is not asked again."""
    found: dict[str, Front] = {}
    broker, why = place.topology.broker, ""
    if broker.startswith(EMBEDDED) and not Path(broker.removeprefix(EMBEDDED)).exists():
        return dict.fromkeys(stands, Front(place.topology.broker_partitions, 0))
    for source, parts in stands.items():
        began = clock.monotonic_ns()
        try:
            found[source] = Front(why=why) if why else _look(place, source, parts, clock)
        except SdaError as error:  # a plan is of use without it
            found[source] = Front(why=error.why)
            if clock.monotonic_ns() - began > QUICK_NS:  # else it did answer: of this topic only
                why = error.why
    return found


def _look(place: Place, source: str, parts: Sequence[Part], clock: Clock) -> Front:
    topology = place.topology
    consumer = open_consumer(
        topology.broker, place.topic_of(source), topology.group, topology.broker_partitions, clock,
        kafka=topology.kafka, patient=True,
    )  # fmt: skip
    try:
        there = consumer.partitions()
        known = {part.partition: part for part in parts}
        for partition in there:
            consumer.seek(partition, _next(consumer, partition, known.get(partition)))
        return Front(len(there), sum(max(0, lag) for lag in consumer.lag().values()))
    finally:
        consumer.close()


def _next(consumer: Consumer, partition: int, part: Part | None) -> int:
    """The offset the source will go on at: of another life of the partition, its start."""
    life, start = consumer.generation(partition), consumer.log_start(partition)
    if part is None or life != life_of(part.generation):
        return start
    return max(start, part.next_offset)
