"""The broker of a schedule: filled beforehand, offsets durable when committed. No server."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from operators.core.batch import EMPTY
from sda_pipeline.broker.port import Batch
from sda_pipeline.records.frames import parse_payload
from tests.simulation.dice import Dice
from tests.simulation.sim_disk import Disk
from tests.simulation.story import Story


class Broker:
    """Topics are named like their sources. ``faults`` collects offsets committed before durable."""

    def __init__(
        self, story: Story, dice: Dice, cut_max: int, wait: Callable[[float], None]
    ) -> None:
        self.story, self.dice, self.cut_max, self.wait = story, dice, cut_max, wait
        self.committed: dict[str, dict[int, int]] = {source: {} for source in story.topics}
        self.faults: list[str] = []

    def open_consumer(
        self, _url: str, topic: str, _group: str, _partitions: int, **_more: object
    ) -> SimConsumer:
        """As ``connect.open_consumer``."""
        return SimConsumer(self, topic)


class SimConsumer:
    """As the broker port says; how many messages come at once, and whence, is chance."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._broker, self._topic = broker, topic
        self._messages = broker.story.topics[topic]
        self._next = dict.fromkeys(range(len(self._messages)), 0) | broker.committed[topic]

    def partitions(self) -> tuple[int, ...]:
        return tuple(range(len(self._messages)))

    def generation(self, _partition: int) -> int:
        return 0

    def log_start(self, _partition: int) -> int:
        return 0

    def position(self, partition: int) -> int:
        return self._next[partition]

    def seek(self, partition: int, offset: int) -> None:
        self._next[partition] = offset

    def consume(self, max_messages: int, _max_bytes: int, timeout_s: float) -> Batch:
        if not any(self.lag().values()):
            if timeout_s:
                self._broker.wait(timeout_s)
            return EMPTY
        dice = self._broker.dice
        partitions, offsets = [], []
        for _ in range(min(max_messages, dice.between(1, self._broker.cut_max))):
            waiting = [p for p, behind in self.lag().items() if behind]
            if not waiting:
                break
            partition = dice.pick(waiting)
            partitions.append(partition)
            offsets.append(self._next[partition])
            self._next[partition] += 1
        messages = [self._messages[p][o] for p, o in zip(partitions, offsets, strict=True)]
        return Batch(
            np.array(partitions, np.int32),
            np.array(offsets, np.int64),
            np.array([m.timestamp_ms for m in messages], np.int64),
            [b"key"] * len(messages),
            [m.value for m in messages],
            [],
        )

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Durable at once. Promise P1 is checked here: what is committed is in the log, synced."""
        logged = Disk.now.logged.get(self._topic)
        parts = parse_payload(*logged).parts if logged else ()
        synced = {part.partition: part.next_offset for part in parts}
        for partition, offset in offsets.items():
            if offset > synced.get(partition, 0):
                self._broker.faults.append(
                    f"{self._topic}[{partition}]: offset {offset} was committed to the broker, "
                    f"the log holds {synced.get(partition, 0)} durably"
                )
        self._broker.committed[self._topic].update(offsets)

    def committed(self) -> dict[int, int]:
        return dict(self._broker.committed[self._topic])

    def lag(self) -> dict[int, int]:
        return {p: len(m) - self._next[p] for p, m in enumerate(self._messages)}

    def unread(self, _partition: int) -> int:
        return 0  # its topics live once

    def close(self) -> None:
        pass
