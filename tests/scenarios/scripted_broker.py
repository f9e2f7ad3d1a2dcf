"""A broker for scenarios: topics whose messages arrive at set times, behind the consumer's port.

Observations are those of lateness_script.py; times are seconds after the TCA of its pair, and event
time and the broker's clock agree. No tests.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from operators.core.batch import EMPTY
from sda_pipeline.broker.port import Batch
from sda_pipeline.limits import SECOND_NS
from tests.scenarios.lateness_script import encounter, observation

BEGIN_S = -31.0  # when the clock starts


def wall(seconds: float) -> int:
    """A time of the script as ns since 1970."""
    return encounter().tca_ns + round(seconds * SECOND_NS)


class Message(NamedTuple):
    """``arrives_s``: when the broker has it."""

    arrives_s: float
    value: bytes
    stamp_ms: int


class Window(NamedTuple):
    """Something that lasts for a while."""

    begin_s: float
    end_s: float


@dataclass
class Topic:
    """One topic of the broker: partitions that appear at some time, messages that arrive."""

    partitions: dict[int, list[Message]] = field(default_factory=lambda: {0: []})
    appears_s: dict[int, float] = field(default_factory=dict)

    def say(
        self, at_s: float, what: str = "bystander catalogued 30", *, partition: int = 0,
        arrives_s: float | None = None, name: str = "",
    ) -> None:  # fmt: skip
        """An observation of ``at_s``, in the broker at once or later."""
        queue = self.partitions.setdefault(partition, [])
        seen = observation(f"{name or f'{partition}-{len(queue)}'} p0 {at_s} {what}")
        arrives_s = at_s if arrives_s is None else arrives_s
        queue.append(Message(arrives_s, seen.value, wall(arrives_s) // 1_000_000 + 1))


class Surroundings(Protocol):
    """Where a broker stands: its time, and whether it can be reached."""

    @property
    def now_s(self) -> float: ...

    def pass_time(self, seconds: float) -> None: ...

    def reach_broker(self) -> None: ...


class ScriptedConsumer:
    """The broker port over a ``Topic``. Calls hang while it is away, fail while it refuses."""

    def __init__(self, topic: Topic, stage: Surroundings) -> None:
        self.topic, self.stage = topic, stage
        self.next: dict[int, int] = {}
        self._arrivals = {p: [m.arrives_s for m in held] for p, held in topic.partitions.items()}

    def partitions(self) -> tuple[int, ...]:
        self.stage.reach_broker()
        found = [p for p in self.topic.partitions
                 if self.topic.appears_s.get(p, BEGIN_S) <= self.stage.now_s]  # fmt: skip
        self.next |= {p: 0 for p in found if p not in self.next}
        return tuple(found)

    def generation(self, _partition: int) -> int:
        return 0

    def log_start(self, _partition: int) -> int:
        return 0

    def position(self, partition: int) -> int:
        return self.next.get(partition, 0)

    def seek(self, partition: int, offset: int) -> None:
        self.next[partition] = offset

    def consume(self, max_messages: int, _max_bytes: int, timeout_s: float) -> Batch:
        self.stage.reach_broker()
        if not any(self.lag().values()) and timeout_s:
            self.stage.pass_time(timeout_s)
        columns: list[tuple[int, int, Message]] = []
        for partition, behind in self.lag().items():
            first = self.next[partition]
            held = self.topic.partitions[partition][first : first + min(behind, max_messages)]
            columns += [(partition, first + at, message) for at, message in enumerate(held)]
            self.next[partition] += len(held)
        if not columns:
            return EMPTY
        return Batch(
            np.array([partition for partition, _, _ in columns], np.int32),
            np.array([offset for _, offset, _ in columns], np.int64),
            np.array([message.stamp_ms for _, _, message in columns], np.int64),
            [b""] * len(columns), [message.value for _, _, message in columns], [],
        )  # fmt: skip

    def commit(self, _offsets: Mapping[int, int]) -> None:
        self.stage.reach_broker()

    def committed(self) -> dict[int, int]:
        return {}

    def lag(self) -> dict[int, int]:
        self.stage.reach_broker()
        now = self.stage.now_s
        return {p: bisect_right(self._arrivals[p], now) - at for p, at in self.next.items()}

    def unread(self, _partition: int) -> int:
        return 0  # its topics live once

    def close(self) -> None:
        pass
