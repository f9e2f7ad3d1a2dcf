"""What tests of a broker say and hear through the port. Not what must come of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sda_pipeline.broker.port import Batch, Consumer, OutMessage, Producer

TOPIC = "sda.obs.radar"
LONG_S = 10.0  # more than enough for what was produced to arrive


class Harness(Protocol):
    """One broker under test; ``close`` of what it opens is its own business."""

    def consumer(self, topic: str = TOPIC, group: str = "g", partitions: int = 1) -> Consumer: ...

    def producer(self) -> Producer: ...

    def recreate(self, topic: str) -> None:
        """Delete and create the topic with as many partitions."""


def messages(count: int, first: int = 0, size: int = 20) -> list[OutMessage]:
    """Distinct messages over a few keys, timestamps 1000 + n."""
    return [
        OutMessage(b"%d" % (n % 29), (b"%08d" % n).ljust(size, b"."), 1000 + n)
        for n in range(first, first + count)
    ]


def drain(consumer: Consumer, count: int, most: int = 1000, size: int = 1 << 20) -> Batch:
    """Consume until ``count`` messages have come, and no more than that come."""
    parts: list[Batch] = []
    while sum(len(part.values) for part in parts) < count:
        part = consumer.consume(most, size, LONG_S)
        assert part.values, "nothing came in time"
        parts.append(part)
    some = any(part.headers for part in parts)
    batch = Batch(
        np.concatenate([part.partitions for part in parts]),
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.timestamps_ms for part in parts]),
        [key for part in parts for key in part.keys],
        [value for part in parts for value in part.values],
        [h for part in parts for h in (part.headers or [()] * len(part.values))] if some else [],
    )
    assert len(batch.values) == count
    return batch


def check_columns(batch: Batch, expected: Sequence[OutMessage]) -> None:
    """One partition: everything in order."""
    assert batch.values == [message.value for message in expected]
    assert batch.keys == [message.key for message in expected]
    assert batch.timestamps_ms.tolist() == [message.timestamp_ms for message in expected]
