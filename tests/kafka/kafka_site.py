"""A pipeline's site whose broker is a real Kafka, with the input of the embedded runs. No tests."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from sda_pipeline.limits import MIB, PAYLOAD_BYTES_MAX
from tests.process.flow import Run
from tests.process.site import Site
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import Topics

KINDS = ("radar", "optical", "isl")
TOPICS = tuple(f"sda.obs.{kind}" for kind in KINDS)
TIMEOUT_S = 2.0  # an outage of the tests is longer than every time-out
LARGE_BYTES = 16 * MIB  # what the topics take; the pipeline's own limit is far below


def topic_of(kind: str) -> str:
    return f"sda.obs.{kind}"


def on_kafka(prepared: Site, root: Path, kafka: KafkaServer) -> Site:
    """A copy of the prepared input without broker and state, for this cluster.

    Beside the whole recording: ``radar.jsonl``, its halves ``radar-1.jsonl`` and
    ``radar-2.jsonl``, and ``others.jsonl``.
    """
    settings = {"broker": f"kafka://{kafka.bootstrap}", "kafka": {"timeout_s": TIMEOUT_S}}
    site = replace(prepared.copy_to(root, without="broker"), settings=settings)
    site.write_topology()
    lines = (root / "traffic.jsonl").read_bytes().splitlines(keepends=True)
    radar = [line for line in lines if b'"topic":"sda.obs.radar"' in line]
    others = [line for line in lines if b'"topic":"sda.obs.radar"' not in line]
    half = len(radar) // 2
    parts = {"radar": radar, "radar-1": radar[:half], "radar-2": radar[half:], "others": others}
    for name, part in parts.items():
        (root / f"{name}.jsonl").write_bytes(b"".join(part))
    return site


def create_topics(topics: Topics) -> None:
    """The three of the pipeline, empty."""
    for topic in TOPICS:
        topics.create(topic, config={"max.message.bytes": str(LARGE_BYTES)})


def segment(kafka: KafkaServer, topic: str) -> Path:
    """The file of partition 0 of a topic with one."""
    (found,) = (kafka.directory / "node-1" / "logs" / f"{topic}-0").glob("*.log")
    return found


def cut_segment(kafka: KafkaServer, topic: str, keep: float) -> None:
    """Leave that share of it."""
    path = segment(kafka, topic)
    with path.open("r+b") as file:
        file.truncate(round(path.stat().st_size * keep))


def audit_of(site: Site) -> dict[str, dict[str, int]]:
    """The audit's sums by source."""
    done = site.run("sda-supervisor", "audit", "--json", "--state", "state", check=False)
    report: dict[str, Any] = orjson.loads(done.stdout)
    return {source["source"]: source for source in report["sources"]}


def nothing_unread(site: Site, topics: Topics) -> None:
    """Every offset of the topics was read, and read once: true without transactions only."""
    audit = audit_of(site)
    for kind in KINDS:
        topic = topic_of(kind)
        ends = sum(topics.offsets(topic, partition)[1] for partition in topics.leaders(topic))
        assert (audit[kind]["read"], audit[kind]["missing"]) == (ends, 0), f"{kind}: {audit[kind]}"


def discards(site: Site, kind: str) -> int:
    """How many messages of the recording itself are empty or over the limit."""
    found = 0
    for line in (site.root / "traffic.jsonl").read_bytes().splitlines():
        message = orjson.loads(line)
        if message["topic"] == topic_of(kind) and "raw" in message:
            size = len(base64.b64decode(message["raw"]))
            found += not 0 < size <= PAYLOAD_BYTES_MAX
    return found


@dataclass
class Own:
    """A cluster of the test's own, its topics, and a site on it."""

    kafka: KafkaServer
    topics: Topics
    site: Site
    runs: list[Run] = field(default_factory=list)

    def run(self) -> Run:
        """A running pipeline."""
        self.runs.append(Run(self.site))
        return self.runs[-1]

    def cut_log(self, topic: str, keep: float) -> None:
        """Of a broker that is dead: the end of partition 0 was never written to its disk."""
        assert not self.kafka.nodes[1].running, "only a dead broker's files are cut"
        cut_segment(self.kafka, topic, keep)
