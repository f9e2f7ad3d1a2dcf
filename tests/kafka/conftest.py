"""One real broker for the tests of a worker, started when the first of them asks for it.

Tests that kill or reconfigure a broker make their own by ``new_kafka``.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kafka.kafka_site import TOPICS, Own, create_topics, on_kafka
from tests.process.conftest import prepared, undisturbed
from tests.process.flow import Run
from tests.process.site import Site
from tests.servers.demand import demand
from tests.servers.java_runtime import java_home
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import Topics
from tests.servers.recipes import installed_kafka

__all__ = ["prepared", "undisturbed"]  # the input, and the finals of the embedded broker

NewKafka = Callable[..., KafkaServer]


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """One node, plaintext, shared: use topics and groups of your own, leave it running."""
    demand(java_home, installed_kafka)
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture
def new_kafka(tmp_path: Path) -> Iterator[NewKafka]:
    """``new_kafka(nodes=3, security=..., extra=...)``: a cluster of the test's own, started."""
    demand(java_home, installed_kafka)
    with contextlib.ExitStack() as stack:

        def start(**options: object) -> KafkaServer:
            directory = tmp_path / f"kafka-{len(list(tmp_path.glob('kafka-*')))}"
            return stack.enter_context(KafkaServer(directory, **options))

        yield start


@pytest.fixture
def topics(kafka: KafkaServer) -> Topics:
    """Topics of the shared broker."""
    return Topics(kafka)


@pytest.fixture
def topic(topics: Topics) -> str:
    """A topic of one partition for this test alone."""
    return topics.create(f"t-{secrets.token_hex(6)}")


# --- whole pipelines on the real broker ---------------------------------------------------------


@pytest.fixture
def recorded(
    prepared: Site,
    kafka: KafkaServer, topics: Topics, tmp_path: Path,
) -> Iterator[Site]:  # fmt: skip
    """The input of the embedded runs, recorded; empty topics on the shared broker."""
    site = on_kafka(prepared, tmp_path / "site", kafka)
    create_topics(topics)
    yield site
    site.clear()
    for topic in TOPICS:
        topics.delete(topic)


@pytest.fixture
def site(recorded: Site) -> Site:
    """The same, all of it in the broker."""
    recorded.fill()
    return recorded


@pytest.fixture
def run(recorded: Site) -> Run:
    """A running pipeline; ``run.play()`` lets the recording flow into it."""
    return Run(recorded)


def _own(prepared: Site, tmp_path: Path, kafka: KafkaServer) -> Iterator[Own]:
    topics = Topics(kafka)
    create_topics(topics)
    site = on_kafka(prepared, tmp_path / "site", kafka)
    yield Own(kafka, topics, site)
    site.clear()


@pytest.fixture
def own(prepared: Site, tmp_path: Path, new_kafka: NewKafka) -> Iterator[Own]:
    """A pipeline on a broker of its own, which may be killed."""
    yield from _own(prepared, tmp_path, new_kafka())


@pytest.fixture
def own_three(prepared: Site, tmp_path: Path, new_kafka: NewKafka) -> Iterator[Own]:
    """The same on three brokers, every topic with three replicas."""
    yield from _own(prepared, tmp_path, new_kafka(nodes=3))
