"""Opening a real Kafka: TLS and SCRAM work; what is wrong is one line, fast, without the secret."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sda_pipeline.broker.connect import open_consumer, open_producer
from sda_pipeline.broker.kafka_settings import KafkaSettings
from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import Unreachable
from tests.contracts.broker_talk import drain, messages
from tests.servers.demand import demand
from tests.servers.java_runtime import java_home
from tests.servers.kafka_properties import Security
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import Topics
from tests.servers.loopback_ports import Port
from tests.servers.recipes import installed_kafka

pytestmark = pytest.mark.kafka
WRONG = "wrong-canary-password"
TOPIC = "sda.obs.radar"


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """One node with TLS and SCRAM, and the topic."""
    demand(java_home, installed_kafka)
    directory = tmp_path_factory.mktemp("safe")
    with KafkaServer(directory, security=Security(scram=True, tls=True)) as server:
        Topics(server).create(TOPIC)
        yield server


@pytest.fixture
def good(safe: KafkaServer, tmp_path: Path) -> KafkaSettings:
    """The right settings for it."""
    assert safe.certificates is not None
    secret = tmp_path / "secret"
    secret.write_text(safe.password)
    return KafkaSettings(
        security="sasl_tls", ca_file=safe.certificates.authority, username=safe.user,
        password_file=secret,
    )  # fmt: skip


def test_tls_and_scram(safe: KafkaServer, good: KafkaSettings) -> None:
    url = f"kafka://{safe.bootstrap}"
    consumer = open_consumer(url, TOPIC, "g", 1, kafka=good)
    producer = open_producer(url, kafka=good)
    producer.create_topic(TOPIC, 1)
    producer.produce(TOPIC, messages(20))
    producer.flush(20.0)
    assert drain(consumer, 20).values == [message.value for message in messages(20)]
    consumer.commit({0: 20})
    assert consumer.committed() == {0: 20}
    assert consumer.lag() == {0: 0}
    consumer.close()
    producer.close()


def refusal(url: str, settings: KafkaSettings, topic: str = TOPIC) -> str:
    """The one line, from both doors when both look."""
    clock = SystemClock()
    began = clock.monotonic_ns()
    with pytest.raises(Unreachable) as caught:
        open_consumer(url, topic, "g", 1, kafka=settings)
    assert clock.monotonic_ns() - began < 10e9
    told = str(caught.value)
    assert told.startswith(f"cannot consume topic {topic}: Kafka at {url.removeprefix('kafka://')}")
    assert "\n" not in told
    assert WRONG not in told
    return told


def test_a_wrong_password(
    safe: KafkaServer, good: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDA_TEST_SECRET", WRONG)
    wrong = replace(good, password_file=None, password_env="SDA_TEST_SECRET")
    told = refusal(f"kafka://{safe.bootstrap}", wrong)
    assert "refuses: " in told
    assert "SASL authentication error" in told
    assert told.endswith("; correct the topology's section kafka or its password")
    with pytest.raises(Unreachable, match=r"cannot produce: Kafka at .* refuses: .*SASL"):
        open_producer(f"kafka://{safe.bootstrap}", kafka=wrong)


def test_an_authority_that_did_not_sign(safe: KafkaServer, good: KafkaSettings) -> None:
    assert safe.certificates is not None
    told = refusal(f"kafka://{safe.bootstrap}", replace(good, ca_file=safe.certificates.stranger))
    assert "refuses: " in told
    assert "certificate verify failed" in told


def test_a_client_without_tls(safe: KafkaServer) -> None:
    assert "does not answer" in refusal(f"kafka://{safe.bootstrap}", KafkaSettings(timeout_s=2.0))


def test_nobody_listens() -> None:
    port = Port()
    told = refusal(f"kafka://{port.address}", KafkaSettings(timeout_s=1.0))
    assert "does not answer (" in told
    assert "Connection refused" in told
    port.release()


def test_a_host_that_does_not_exist() -> None:
    told = refusal("kafka://no-such-host.invalid:9092", KafkaSettings(timeout_s=1.0))
    assert "Failed to resolve 'no-such-host.invalid:9092'" in told


def test_a_topic_that_does_not_exist(safe: KafkaServer, good: KafkaSettings) -> None:
    told = refusal(f"kafka://{safe.bootstrap}", good, "sda.obs.nothing")
    assert told.endswith(
        f"; create it: kafka-topics.sh --bootstrap-server {safe.bootstrap} --create "
        "--topic sda.obs.nothing"
    )
