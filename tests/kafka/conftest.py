"""The real servers for the tests of this folder, all of which carry the marker ``kafka``; and whole
pipelines on the real broker, with the input and the finals of the embedded broker's runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.kafka_site import TOPICS, Own, create_topics, on_kafka
from tests.process.conftest import prepared, undisturbed
from tests.process.flow import Run
from tests.process.site import Site
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import Topics
from tests.servers.server_fixtures import *  # noqa: F403
from tests.servers.server_fixtures import NewKafka

__all__ = ["prepared", "undisturbed"]  # the input, and the finals of the embedded broker


def pytest_itemcollected(item: pytest.Item) -> None:
    """So that `make test-kafka` forgets none; what tests/process repeats ten times is slow here."""
    item.add_marker("kafka")
    if "at_ten_moments" in item.name:
        item.add_marker("slow")


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
def run(recorded: Site) -> Iterator[Run]:
    """A running pipeline; ``run.play()`` lets the recording flow into it."""
    run = Run(recorded)
    yield run
    run.close()


def _own(prepared: Site, tmp_path: Path, kafka: KafkaServer) -> Iterator[Own]:
    topics = Topics(kafka)
    create_topics(topics)
    site = on_kafka(prepared, tmp_path / "site", kafka)
    own = Own(kafka, topics, site)
    yield own
    for run in own.runs:
        run.close()
    site.clear()


@pytest.fixture
def own(prepared: Site, tmp_path: Path, new_kafka: NewKafka) -> Iterator[Own]:
    """A pipeline on a broker of its own, which may be killed."""
    yield from _own(prepared, tmp_path, new_kafka())


@pytest.fixture
def own_three(prepared: Site, tmp_path: Path, new_kafka: NewKafka) -> Iterator[Own]:
    """The same on three brokers, every topic with three replicas."""
    yield from _own(prepared, tmp_path, new_kafka(nodes=3))
