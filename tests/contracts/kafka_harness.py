"""A real Kafka as the contract suite uses it: topics made on first use, gone afterwards."""

from __future__ import annotations

from sda_pipeline.broker.connect import open_consumer, open_producer
from sda_pipeline.broker.kafka_settings import KafkaSettings
from sda_pipeline.broker.port import Consumer, Producer
from tests.contracts.broker_talk import TOPIC
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import Topics

SETTINGS = KafkaSettings(timeout_s=10.0)  # a busy machine is no outage


class Kafka:
    """Closes what it opened and deletes what it made."""

    def __init__(self, server: KafkaServer) -> None:
        self.topics = Topics(server)
        self.url = f"kafka://{server.bootstrap}"
        self._made: set[str] = set()
        self._opened: list[Consumer | Producer] = []

    def consumer(self, topic: str = TOPIC, group: str = "g", partitions: int = 1) -> Consumer:
        if topic not in self._made:
            self._made.add(self.topics.create(topic, partitions))
        opened = open_consumer(self.url, topic, group, partitions, kafka=SETTINGS)
        self._opened.append(opened)
        return opened

    def producer(self) -> Producer:
        opened = open_producer(self.url, kafka=SETTINGS)
        self._opened.append(opened)
        return opened

    def recreate(self, topic: str) -> None:
        partitions = len(self.topics.leaders(topic))
        self.topics.delete(topic)
        self.topics.create(topic, partitions)

    def close(self) -> None:
        for opened in self._opened:
            opened.close()
        for topic in self._made:
            self.topics.delete(topic)
