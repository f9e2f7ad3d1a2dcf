"""From a broker URL of the topology to a consumer or a producer. The one list of schemes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sda_pipeline.broker.embedded import EmbeddedConsumer, EmbeddedProducer
from sda_pipeline.broker.kafka_settings import SCHEME as KAFKA
from sda_pipeline.broker.kafka_settings import KafkaSettings, servers_of
from sda_pipeline.broker.port import Consumer, Producer
from sda_pipeline.broker.storage import Storage, open_storage
from sda_pipeline.clock import Clock, SystemClock
from sda_pipeline.errors import InvalidConfiguration, SdaError, Transient, Unreachable
from sda_pipeline.limits import BROKER_MAP_BYTES, BROKER_RETENTION_S, SECOND_NS

EMBEDDED = "embedded:"
OPENING_S = 4.0  # a Kafka is asked for at least so long before a first start gives up
KNOWN = f"write {EMBEDDED}DIRECTORY or {KAFKA}HOST:PORT,HOST:PORT"


def open_consumer(
    url: str,
    topic: str,
    group: str,
    partitions_if_new: int,
    clock: Clock | None = None,
    *,
    kafka: KafkaSettings | None = None,
    patient: bool = False,
) -> Consumer:
    """A consumer of all partitions of ``topic``. It starts where the group has committed, else at
    each partition's start.

    The embedded broker makes a topic that does not exist; Kafka's is Unreachable, and the message
    says how to make it. InvalidConfiguration for a wrong URL or setting; Unreachable or
    StateCorrupt when the broker cannot be opened: with ``patient``, a Kafka that is away is not
    asked for now, and the consumer's calls are Transient until it is back.
    """
    clock = clock or SystemClock()
    if url.startswith(KAFKA):
        return _open_kafka(url, topic, group, clock, kafka or KafkaSettings(), patient=patient)
    storage = _open(url)
    try:
        return EmbeddedConsumer(storage, topic, group, partitions_if_new, clock)
    except SdaError:
        storage.close()
        raise


def _open_kafka(
    url: str, topic: str, group: str, clock: Clock, settings: KafkaSettings, *, patient: bool
) -> Consumer:
    # Only here, and in open_producer: whoever uses the embedded broker never loads the client.
    from sda_pipeline.broker.kafka import KafkaConsumer
    from sda_pipeline.broker.kafka_admin import KafkaAdmin, MissingTopic

    servers, action = servers_of(url), f"consume topic {topic}"
    consumer = KafkaConsumer(KafkaAdmin(servers, settings, clock), topic, group, clock)
    try:
        if not patient:
            _insist(consumer.partitions, clock)
    except Transient as error:
        consumer.close()
        hint = error.hint
        if isinstance(error, MissingTopic):
            hint = (
                f"create it: kafka-topics.sh --bootstrap-server {servers} --create --topic {topic}"
            )
        raise Unreachable(action, error.why, hint) from error
    return consumer


def open_producer(
    url: str,
    clock: Clock | None = None,
    retention_s: float = BROKER_RETENTION_S,
    *,
    kafka: KafkaSettings | None = None,
) -> Producer:
    """A producer for any topic. Errors as ``open_consumer``.

    The embedded broker's producers also delete what all groups have committed and what is older
    than ``retention_s``; Kafka has a retention of its own.
    """
    clock = clock or SystemClock()
    if not url.startswith(KAFKA):
        return EmbeddedProducer(_open(url), clock, retention_s)
    from sda_pipeline.broker.kafka_admin import KafkaAdmin
    from sda_pipeline.broker.kafka_producer import KafkaProducer

    admin = KafkaAdmin(servers_of(url), kafka or KafkaSettings(), clock)
    try:
        _insist(admin.ping, clock)
    except Transient as error:
        admin.close()
        raise Unreachable("produce", error.why, error.hint) from error
    return KafkaProducer(admin)


def _insist(ask: Callable[[], object], clock: Clock) -> None:
    """Ask until there is an answer, for ``OPENING_S``: a busy cluster is not an absent one."""
    from sda_pipeline.broker.kafka_admin import MissingTopic, Refused

    until = clock.monotonic_ns() + round(OPENING_S * SECOND_NS)
    first: Transient | None = None  # it knows best: a client tells its trouble once
    while True:
        try:
            ask()
        except (MissingTopic, Refused):  # asking again will not help
            raise
        except Transient as error:
            first = first or error
            if clock.monotonic_ns() >= until:
                raise first from error
        else:
            return


def check_url(url: str) -> str:
    """The embedded broker's directory; InvalidConfiguration for anything else."""
    directory = url.removeprefix(EMBEDDED)
    if directory == url:
        raise InvalidConfiguration(f"use the broker {url!r}", ["its scheme is not known"], KNOWN)
    if not directory:
        raise InvalidConfiguration(f"use the broker {url!r}", ["it names no directory"], KNOWN)
    return directory


def _open(url: str) -> Storage:
    return open_storage(Path(check_url(url)), BROKER_MAP_BYTES)
