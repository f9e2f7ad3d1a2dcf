"""Messages in the order the broker gets them: event time plus latency, faults mixed in.

``messages`` is the simulator's programming interface for tests; ``Timeline`` is the same, taken
up to a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sda_pipeline.cli.sim.faults import FaultMix, Injector
from sda_pipeline.cli.sim.scene import Scene
from sda_pipeline.cli.sim.traffic import SLICE_NS, Message, Options, Traffic
from sda_pipeline.cli.sim.truth import Fault

SLICE_MS = SLICE_NS // 1_000_000


class Due(NamedTuple):
    """One message and, when it was injected, what it is."""

    message: Message
    fault: Fault | None = None


class Timeline:
    """Hands out every message once, by timestamp; of equal timestamps in order of generation."""

    def __init__(self, scene: Scene, options: Options, mix: FaultMix | None = None) -> None:
        self._traffic, self._options = Traffic(scene, options), options
        last_ms = None if options.end_ns is None else options.end_ns // 1_000_000
        self._injector = Injector(scene, mix or FaultMix(), options.seed, last_ms)
        self._next = options.start_ns // SLICE_NS  # slice to generate
        self._at_ms = self._next * SLICE_MS  # all before it were handed out
        self._waiting: dict[int, list[Due]] = {}  # by timestamp

    @property
    def generated_all(self) -> bool:
        """Whether the span has an end and no event before it is left to generate."""
        end = self._options.end_ns
        return end is not None and self._next * SLICE_NS >= end

    @property
    def exhausted(self) -> bool:
        """Whether nothing will be handed out any more."""
        return self.generated_all and not self._waiting

    def prepare(self, until_ms: int) -> None:
        """Generate the events that may be due by ``until_ms``."""
        while self._next * SLICE_MS <= until_ms and not self.generated_all:
            self._generate()

    def take(self, until_ms: int) -> list[Due]:
        """Every message with a timestamp up to ``until_ms`` not handed out before."""
        self.prepare(until_ms)
        due: list[Due] = []
        for at in range(self._at_ms, until_ms + 1):
            due += self._waiting.pop(at, ())
        self._at_ms = max(self._at_ms, until_ms + 1)
        return due

    def drain(self) -> Iterator[list[Due]]:
        """Everything left of a finite span, a slice at a time."""
        while not self.exhausted:
            yield self.take(self._at_ms + SLICE_MS - 1)

    def _generate(self) -> None:
        good = self._traffic.slice(self._next)
        waiting = self._waiting
        for message in good:
            waiting.setdefault(message.timestamp_ms, []).append(Due(message))
        for message, fault in self._injector.inject(self._next, good):
            waiting.setdefault(message.timestamp_ms, []).append(Due(message, fault))
        self._next += 1


def messages(scene: Scene, options: Options, mix: FaultMix | None = None) -> Iterator[Message]:
    """Every message of a finite span, in order of the timestamp.

    Deterministic from its arguments; ``options.end_ns`` must be set. Messages of events before
    the end come whole, also those that reach the broker after it.
    """
    assert options.end_ns is not None, "a list of messages needs an end"
    for due in Timeline(scene, options, mix).drain():
        for message, _ in due:
            yield message
