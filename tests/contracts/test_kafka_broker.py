"""The real Kafka: the contract suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contracts.broker_suite import BrokerSuite
from tests.contracts.kafka_harness import Kafka
from tests.servers.kafka_server import KafkaServer
from tests.servers.server_fixtures import kafka

pytestmark = pytest.mark.kafka
__all__ = ["kafka"]  # the fixture


@pytest.fixture
def broker(kafka: KafkaServer) -> Iterator[Kafka]:
    harness = Kafka(kafka)
    yield harness
    harness.close()


class TestKafkaContract(BrokerSuite):
    """Every test of the suite, on Apache Kafka."""
