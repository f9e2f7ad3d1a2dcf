"""One embedded broker in a directory, as the tests use it. Not a test module."""

from __future__ import annotations

from pathlib import Path

from sda_pipeline.broker.embedded import EmbeddedConsumer, EmbeddedProducer
from sda_pipeline.broker.storage import open_storage
from sda_pipeline.clock import Clock, SystemClock
from sda_pipeline.limits import MIB
from tests.contracts.broker_talk import TOPIC

HOUR_S = 3600.0


class Embedded:
    """A broker in a directory; closes what it opened."""

    def __init__(self, directory: Path, map_size: int = 64 * MIB) -> None:
        self.directory, self._map_size = directory, map_size
        self._opened: list[EmbeddedConsumer | EmbeddedProducer] = []

    def consumer(
        self, topic: str = TOPIC, group: str = "g", partitions: int = 1, clock: Clock | None = None
    ) -> EmbeddedConsumer:
        storage = open_storage(self.directory, self._map_size)
        opened = EmbeddedConsumer(storage, topic, group, partitions, clock or SystemClock())
        self._opened.append(opened)
        return opened

    def producer(self, clock: Clock | None = None) -> EmbeddedProducer:
        storage = open_storage(self.directory, self._map_size)
        opened = EmbeddedProducer(storage, clock or SystemClock(), HOUR_S)
        self._opened.append(opened)
        return opened

    def recreate(self, topic: str) -> None:
        self.producer().recreate_topic(topic)

    def close(self) -> None:
        for opened in self._opened:
            if opened._storage.users > 0:
                opened.close()
