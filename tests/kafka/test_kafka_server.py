"""The scripts that run Kafka, on the real one: it answers, is safe, survives, obeys."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from tests.kafka.kafka_talk import consume, produce
from tests.process.waiting import wait_until
from tests.servers.fault_proxy import FaultProxies
from tests.servers.kafka_properties import Security
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import QUIET, Topics
from tests.servers.server_fixtures import NewKafka

VALUES = [b"one", b"two", b"three"]


def answers(client: dict[str, str], within_s: float = 2.0) -> bool:
    """Whether a fresh client gets the cluster's metadata."""
    try:
        return bool(AdminClient({**client, **QUIET}).list_topics(timeout=within_s).brokers)
    except KafkaException:
        return False


def assert_refused(client: dict[str, str], code: int) -> None:
    """A fresh client is told this error."""
    told: list[int] = []
    settings = {**client, **QUIET, "error_cb": lambda error: told.append(error.code())}
    admin = AdminClient(settings)
    wait_until(lambda: admin.poll(0) or code in told, lambda: f"wanted {code}, told {told}")


def test_what_is_produced_is_consumed(kafka: KafkaServer, topics: Topics, topic: str) -> None:
    produce(kafka.client(), topic, VALUES)
    assert consume(kafka.client(), topic, 3) == VALUES
    assert topics.offsets(topic) == (0, 3)


def test_topics_grow_are_truncated_and_deleted(kafka: KafkaServer, topics: Topics) -> None:
    topic = topics.create("handled")
    produce(kafka.client(), topic, VALUES)
    topics.truncate(topic, 0, 2)
    assert topics.offsets(topic) == (2, 3)
    topics.grow(topic, 3)
    assert sorted(topics.leaders(topic)) == [0, 1, 2]
    assert topics.committed("nobody", topic) is None
    topics.delete(topic)
    assert topics.leaders(topic) == {}


def test_a_killed_broker_keeps_what_it_acknowledged(new_kafka: NewKafka) -> None:
    kafka = new_kafka()
    topic = Topics(kafka).create("kept")
    produce(kafka.client(), topic, VALUES)
    kafka.kill()
    assert not kafka.nodes[1].running
    kafka.start()
    produce(kafka.client(), topic, [b"four"])
    assert consume(kafka.client(), topic, 4) == [*VALUES, b"four"]
    kafka.stop()
    assert not kafka.nodes[1].running


def test_a_paused_broker_is_connected_and_silent(new_kafka: NewKafka) -> None:
    kafka = new_kafka()
    kafka.pause()
    assert not answers(kafka.client(), within_s=0.5)
    assert kafka.nodes[1].running
    kafka.resume()
    wait_until(lambda: answers(kafka.client()), kafka.story)


@pytest.mark.parametrize(
    "security", [Security(tls=True), Security(scram=True), Security(scram=True, tls=True)], ids=str
)
def test_the_client_listener_is_guarded(new_kafka: NewKafka, security: Security) -> None:
    kafka = new_kafka(security=security)
    topic = Topics(kafka).create("guarded")
    produce(kafka.client(), topic, VALUES)
    assert consume(kafka.client(), topic, 3) == VALUES
    plain = {"bootstrap.servers": kafka.bootstrap}  # is cut off, and not told more
    assert_refused(plain, KafkaError._ALL_BROKERS_DOWN)
    if security.scram:
        wrong = kafka.client() | {"sasl.password": "wrong"}
        assert_refused(wrong, KafkaError._AUTHENTICATION)
    if kafka.certificates is not None:
        stranger = kafka.client() | {"ssl.ca.location": str(kafka.certificates.stranger)}
        assert_refused(stranger, KafkaError._SSL)


def test_retention_removes_what_is_old(new_kafka: NewKafka) -> None:
    """What other tests rely on when they let a broker lose what they want."""
    kafka = new_kafka(extra={"log.retention.bytes": "1", "log.segment.bytes": str(1 << 20)})
    topics = Topics(kafka)
    topic = topics.create("short")
    produce(kafka.client(), topic, [bytes(300_000)] * 8)
    wait_until(lambda: topics.offsets(topic)[0] > 0, kafka.story)


def test_three_nodes_go_on_without_the_leader(new_kafka: NewKafka) -> None:
    kafka = new_kafka(nodes=3)
    topics = Topics(kafka)
    topic = topics.create("replicated")
    produce(kafka.client(), topic, VALUES)
    leader = topics.leaders(topic)[0]
    kafka.kill(leader)
    produce(kafka.client(), topic, [b"four"])
    assert topics.leaders(topic)[0] != leader
    kafka.start([leader])
    assert consume(kafka.client(), topic, 4) == [*VALUES, b"four"]


def test_a_proxy_before_the_broker_is_the_only_way(
    new_kafka: NewKafka, proxies: FaultProxies
) -> None:
    kafka = new_kafka(behind=proxies)
    topic = Topics(kafka).create("proxied")
    produce(kafka.client(), topic, VALUES)
    kafka.proxies[1].down()
    assert not answers(kafka.client(), within_s=0.5)
    kafka.proxies[1].heal()
    assert consume(kafka.client(), topic, 3) == VALUES
