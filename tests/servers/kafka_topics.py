"""What tests do to topics behind the pipeline's back: create, grow, truncate, look.

By the internal listener: past the security and the proxies under test.
"""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic, OffsetSpec

from tests.process.waiting import wait_until
from tests.servers.kafka_server import KafkaServer

WITHIN_S = 30.0
QUIET = {"log_level": 0, "error_cb": lambda _error: None}


class Topics:
    """The topics of one cluster."""

    def __init__(self, kafka: KafkaServer) -> None:
        self._kafka = kafka
        self._admin = AdminClient({"bootstrap.servers": kafka.internal, **QUIET})

    def create(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> str:
        """A replica on every node; returns when every partition can be asked."""
        topic = NewTopic(name, partitions, len(self._kafka.nodes), config=dict(config or {}))
        self._admin.create_topics([topic])[name].result(WITHIN_S)
        wait_until(lambda: self._there(name, partitions), self._kafka.story, WITHIN_S)
        return name

    def ensure(self, name: str, partitions: int = 1) -> None:
        """Create it unless it is there, with as many partitions or more."""
        found = len(self.leaders(name))
        if not found:
            self.create(name, partitions)
        elif found < partitions:
            self.grow(name, partitions)

    def delete(self, name: str) -> None:
        """Delete it; returns when it is gone from the metadata."""
        self._admin.delete_topics([name])[name].result(WITHIN_S)
        wait_until(lambda: not self.leaders(name), self._kafka.story, WITHIN_S)

    def grow(self, name: str, partitions: int) -> None:
        """Add partitions up to this number."""
        self._admin.create_partitions([NewPartitions(name, partitions)])[name].result(WITHIN_S)
        wait_until(lambda: self._there(name, partitions), self._kafka.story, WITHIN_S)

    def truncate(self, name: str, partition: int, first_kept: int) -> None:
        """Remove what lies before an offset, as retention would."""
        at = TopicPartition(name, partition, first_kept)
        self._admin.delete_records([at])[at].result(WITHIN_S)

    def leaders(self, name: str) -> dict[int, int]:
        """Partition -> node that leads it, of those that have a leader; {} for an unknown topic."""
        found = self._admin.list_topics(timeout=WITHIN_S).topics.get(name)
        partitions = found.partitions.values() if found and not found.error else ()
        return {p.id: p.leader for p in partitions if p.leader in self._kafka.nodes}

    def offsets(self, name: str, partition: int = 0) -> tuple[int, int]:
        """First offset kept and the one after the last."""
        at = TopicPartition(name, partition)
        return self._offset(at, OffsetSpec.earliest()), self._offset(at, OffsetSpec.latest())

    def committed(self, group: str, name: str, partition: int = 0) -> int | None:
        """The group's offset, None when it has none."""
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(name, partition)])
        found = self._admin.list_consumer_group_offsets([wanted])[group].result(WITHIN_S)
        offset = found.topic_partitions[0].offset
        return offset if offset >= 0 else None

    def _there(self, name: str, partitions: int) -> bool:
        """Every partition has a leader, and a log there: the metadata tells of it before."""
        if len(self.leaders(name)) != partitions:
            return False
        try:
            return all(self.offsets(name, partition)[1] >= 0 for partition in range(partitions))
        except KafkaException:
            return False

    def _offset(self, at: TopicPartition, spec: OffsetSpec) -> int:
        return self._admin.list_offsets({at: spec})[at].result(WITHIN_S).offset
