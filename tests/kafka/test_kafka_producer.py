"""The producer on the real Kafka: all of a batch or none, and a loss is never followed by a yes."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator

import pytest

from sda_pipeline.broker.connect import open_producer
from sda_pipeline.broker.kafka_settings import UNSENT_MESSAGES, KafkaSettings
from sda_pipeline.broker.port import OutMessage, Producer
from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import ExitCode, SdaError, Transient
from sda_pipeline.limits import MIB, SECOND_NS
from tests.contracts.broker_talk import messages
from tests.kafka.kafka_site import Own
from tests.kafka.kafka_talk import consume
from tests.process.waiting import wait_until
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import Topics
from tests.servers.server_fixtures import NewKafka

pytestmark = pytest.mark.kafka
LONG_S = 20.0
SETTINGS = KafkaSettings(timeout_s=10.0)
TOO_LARGE = [OutMessage(b"k", bytes(2 * MIB), 5)]


@pytest.fixture
def producer(kafka: KafkaServer) -> Iterator[Producer]:
    producer = open_producer(f"kafka://{kafka.bootstrap}", kafka=SETTINGS)
    yield producer
    producer.close()


def produce_on(producer: Producer, topic: str, taken: list[OutMessage]) -> None:
    """One by one, until something is raised."""
    clock = SystemClock()
    until = clock.monotonic_ns() + round(LONG_S * SECOND_NS)
    while clock.monotonic_ns() < until:
        producer.produce(topic, messages(1, len(taken)))
        taken += messages(1, len(taken))


def test_after_a_refusal_nothing_more_is_taken(
    producer: Producer, topic: str, topics: Topics
) -> None:
    """The call that hears of it hands over nothing; a flush never says that all is well."""
    producer.produce(topic, TOO_LARGE)
    taken: list[OutMessage] = []
    with pytest.raises(SdaError, match=r"cannot produce to .*large"):
        produce_on(producer, topic, taken)
    for _ in range(2):
        with pytest.raises(SdaError, match=r"cannot produce to .*large"):
            producer.flush(LONG_S)
    assert topics.offsets(topic) == (0, len(taken))


def test_a_flush_after_a_refusal_says_so_again(producer: Producer, topic: str) -> None:
    producer.produce(topic, TOO_LARGE)
    for _ in range(2):
        with pytest.raises(SdaError, match=r"cannot produce to Kafka: .*large"):
            producer.flush(LONG_S)


def test_more_than_the_client_holds_is_refused_whole(
    producer: Producer, topic: str, topics: Topics
) -> None:
    many = messages(1) * (UNSENT_MESSAGES + 1)
    with pytest.raises(SdaError, match=r"cannot produce to .*: 400001 messages"):
        producer.produce(topic, many)
    producer.produce(topic, many[:2])
    producer.flush(LONG_S)
    assert topics.offsets(topic) == (0, 2)


def test_a_name_that_cannot_be_a_topic_is_a_typed_error(
    producer: Producer, topic: str, topics: Topics
) -> None:
    with pytest.raises(SdaError, match="cannot produce to tttt"):
        producer.produce("t" * 600, messages(3))
    producer.produce(topic, messages(3))
    producer.flush(LONG_S)
    assert topics.offsets(topic) == (0, 3)


def test_a_full_client_takes_none_of_a_batch(new_kafka: NewKafka) -> None:
    kafka = new_kafka()
    topic = Topics(kafka).create("t")
    producer = open_producer(f"kafka://{kafka.bootstrap}", kafka=SETTINGS)
    producer.produce(topic, messages(1))
    producer.flush(LONG_S)
    kafka.pause()
    producer.produce(topic, messages(UNSENT_MESSAGES - 5, 1))
    with pytest.raises(Transient, match=r"has not taken \d+ messages yet"):
        producer.produce(topic, messages(10, UNSENT_MESSAGES))
    producer.produce(topic, messages(5, UNSENT_MESSAGES - 4))
    kafka.resume()
    producer.flush(6 * LONG_S)
    producer.close()
    assert Topics(kafka).offsets(topic) == (0, UNSENT_MESSAGES + 1)


def test_a_producer_outlives_its_topic(
    producer: Producer, kafka: KafkaServer, topics: Topics
) -> None:
    """Deleted and created anew under it: what comes afterwards is in the new one, acknowledged."""
    topic = topics.create(f"again-{secrets.token_hex(4)}")
    producer.produce(topic, messages(20))
    producer.flush(LONG_S)
    topics.delete(topic)
    topics.create(topic)
    producer.produce(topic, messages(20, 100))
    producer.flush(LONG_S)
    found = consume(kafka.client(), topic, 20)
    assert sorted(found) == [message.value for message in messages(20, 100)]


@pytest.mark.slow  # as long as the simulator's patience
@pytest.mark.process
def test_a_simulator_whose_broker_goes_away_says_so(own: Own) -> None:
    play = subprocess.Popen(
        own.site.command("sda-sim", "play", "radar.jsonl", "--speed", "50"),
        cwd=own.site.root, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: own.topics.offsets("sda.obs.radar")[1] > 100, own.site.story)
    own.kafka.kill()
    _, said = play.communicate(timeout=120)
    assert play.returncode == ExitCode.UNREACHABLE, said
    (line,) = [line for line in said.splitlines() if line.startswith("cannot ")]
    assert "are not acknowledged after 30 s" in line
