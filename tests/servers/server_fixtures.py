"""The real servers as pytest fixtures for any folder's conftest, started when first asked for.

``kafka``, ``s3`` and ``proxies`` are shared by the tests of a worker; tests that kill, pause or
reconfigure a server make their own by ``new_kafka`` and ``new_s3``. All are gone at the end.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.demand import demand
from tests.servers.fault_proxy import FaultProxies
from tests.servers.java_runtime import java_home
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import Topics
from tests.servers.recipes import TOXIPROXY, VERSITYGW, installed_kafka
from tests.servers.s3_server import S3Server

__all__ = ["kafka", "new_kafka", "new_s3", "proxies", "s3", "topic", "topics"]

NewKafka = Callable[..., KafkaServer]
NewS3 = Callable[[], S3Server]


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """One node, plaintext: use topics and groups of your own, leave it running."""
    demand(java_home, installed_kafka)
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture
def new_kafka(tmp_path: Path) -> Iterator[NewKafka]:
    """``new_kafka(nodes=3, security=..., extra=..., behind=...)``: started, the test's own."""
    demand(java_home, installed_kafka)
    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> KafkaServer:
            directory = tmp_path / f"kafka-{secrets.token_hex(4)}"
            return stack.enter_context(KafkaServer(directory, **options))

        yield start


@pytest.fixture
def topics(kafka: KafkaServer) -> Topics:
    """The topics of the shared broker."""
    return Topics(kafka)


@pytest.fixture
def topic(topics: Topics) -> str:
    """A topic of one partition for this test alone."""
    return topics.create(f"t-{secrets.token_hex(6)}")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server with a bucket: use a prefix of your own, leave it running."""
    demand(VERSITYGW.installed)
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def new_s3(tmp_path: Path) -> Iterator[NewS3]:
    """``new_s3()``: started, the test's own."""
    demand(VERSITYGW.installed)
    with contextlib.ExitStack() as stack:

        def start() -> S3Server:
            return stack.enter_context(S3Server(tmp_path / f"s3-{secrets.token_hex(4)}"))

        yield start


@pytest.fixture(scope="session")
def proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultProxies]:
    """A fault proxy: ``proxies.add(address)`` makes one that no other test uses."""
    demand(TOXIPROXY.installed)
    with FaultProxies(tmp_path_factory.mktemp("proxies")) as server:
        yield server
