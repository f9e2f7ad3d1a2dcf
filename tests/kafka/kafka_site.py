"""A pipeline's site whose broker is a real Kafka, with the input of the embedded runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tests.process.site import Site
from tests.servers.kafka_server import KafkaServer

TOPICS = ("sda.obs.radar", "sda.obs.optical", "sda.obs.isl")
TIMEOUT_S = 2.0  # an outage of the tests is longer than every time-out


def on_kafka(prepared: Site, root: Path, kafka: KafkaServer, **settings: object) -> Site:
    """A copy of the prepared input without broker and state, for this cluster."""
    site = replace(prepared.copy_to(root, without="broker"), settings=on(kafka, **settings))
    site.write_topology()
    return site


def on(kafka: KafkaServer, **settings: object) -> Mapping[str, object]:
    """The topology's keys for this cluster."""
    return {
        "broker": f"kafka://{kafka.bootstrap}",
        "kafka": {"timeout_s": TIMEOUT_S, **settings},
    }
