"""What the pipeline is given: a catalogue, and a broker filled beforehand. Measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from sda_pipeline.broker.connect import open_producer
from sda_pipeline.broker.port import OutMessage
from sda_pipeline.cli.sim.scene import load_scene
from sda_pipeline.cli.sim.timeline import messages
from sda_pipeline.cli.sim.traffic import Message, Options
from sda_pipeline.limits import BATCH_MESSAGES_MAX, SECOND_NS
from sda_pipeline.topology import load_topology
from tests.process.site import Site

EPOCH = "2026-11-23T12:00:00Z"
SEED = 7
RATE = 10_000.0  # observations per second of event time, as SPEC 10's nominal load
PER_MINUTE = 30.0  # engineered encounters, SPEC 12
TELL_EVERY = 50_000

Say = Callable[[str], None]


class Event(NamedTuple):
    """A message as the per-event loop takes it."""

    topic: str
    value: bytes
    timestamp_ms: int
    partition: int
    offset: int


def make_site(root: Path, *, snapshot_every_s: float = 30.0) -> Site:
    """A site with the repository's own topology and sensors."""
    root.mkdir(parents=True)
    site = Site(root)
    site.write_topology(checkpoint={"every_s": snapshot_every_s})
    return site


def make_catalogue(
    site: Site, objects: int, minutes: float, epoch: str | None, per_minute: float = PER_MINUTE
) -> None:
    """A synthetic catalogue with engineered encounters from ``epoch`` (None: now) on."""
    since = () if epoch is None else ("--epoch", epoch)
    site.run(
        "sda-sim", "catalogue", *since, "--seed", str(SEED), "--objects", str(objects),
        "--minutes", str(minutes), "--per-minute", str(per_minute),
    )  # fmt: skip


def traffic(site: Site, observations: int, rate: float = RATE) -> Iterator[Message]:
    """So many observations of the site's catalogue from its T0 on, by broker timestamp."""
    topology = load_topology(site.topology)
    scene, truth = load_scene(topology, None, on_catalogue=False)
    assert truth is not None, "a catalogue of ours has its truth beside it"
    span = round(observations / rate * SECOND_NS)
    start = truth.epoch_ns
    yield from messages(scene, Options(SEED, rate, start, start + span))


def fill(site: Site, observations: int, say: Say, rate: float = RATE) -> int:
    """Put the traffic into the site's broker; returns how many messages it was."""
    topology = load_topology(site.topology)
    producer = open_producer(topology.broker)
    waiting: dict[str, list[OutMessage]] = {}
    count = 0
    try:
        for spec in topology.operators:
            if spec.topic is not None:
                producer.create_topic(spec.topic, topology.broker_partitions)
        for topic, key, value, timestamp_ms in traffic(site, observations, rate):
            batch = waiting.setdefault(topic, [])
            batch.append(OutMessage(key, value, timestamp_ms))
            count += 1
            if len(batch) == BATCH_MESSAGES_MAX:
                producer.produce(topic, waiting.pop(topic))
            if count % TELL_EVERY == 0:
                say(f"filled the broker with {count:,} of {observations:,} observations")
        for topic, batch in waiting.items():
            producer.produce(topic, batch)
        producer.flush(60.0)
    finally:
        producer.close()
    return count


def events(site: Site, observations: int, first: int, rate: float = RATE) -> list[Event]:
    """The ``first`` messages of the same traffic with the coordinates the broker gives them."""
    offsets: dict[str, int] = {}
    found = []
    for topic, _, value, timestamp_ms in islice(traffic(site, observations, rate), first):
        offset = offsets.get(topic, 0)
        found.append(Event(topic, value, timestamp_ms, 0, offset))
        offsets[topic] = offset + 1
    return found
