"""Traffic against the clock: ``run`` as it happens, ``play`` as it was recorded.

Not what it consists of.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from sda_pipeline.cli.sim.recording import Recorded
from sda_pipeline.cli.sim.scene import Scene
from sda_pipeline.cli.sim.sending import Sender, Stop
from sda_pipeline.cli.sim.timeline import Timeline
from sda_pipeline.cli.sim.truth import Fault
from sda_pipeline.clock import Clock
from sda_pipeline.limits import SECOND_NS

TICK_S = 0.020  # produced in batches of so much
AHEAD_MS = 500  # generated before it is due, so that generating delays nothing
STEP_MS = 1000  # after a stall: catch up in steps of this, so that a stop is heard
PLAY_BATCH = 2000
PROGRESS_NS = SECOND_NS // 5


@dataclass
class Ran:
    """What ``run`` has done."""

    ended_ns: int = 0
    faults: list[Fault] = field(default_factory=list)
    stopped: bool = False


class Pace(NamedTuple):
    """What live sending needs."""

    sender: Sender
    clock: Clock
    stop: Stop
    say: Callable[[str], None]


def run_live(
    timeline: Timeline, scene: Scene, start_ns: int, end_ns: int | None, pace: Pace
) -> Ran:
    """Produce every message when the clock reaches its timestamp, until ``end_ns`` or a stop."""
    ran = Ran()
    last_ns = max((e.tca_ns for e in scene.encounters if e.origin == "engineered"), default=None)
    at_ms = start_ns // 1_000_000
    while not pace.stop.asked:
        now = pace.clock.wall_ns()
        if end_ns is not None and now >= end_ns:
            break
        at_ms = min(now // 1_000_000, at_ms + STEP_MS)
        due = timeline.take(at_ms)
        pace.sender.send(Recorded(*message) for message, _ in due)
        ran.faults.extend(fault for _, fault in due if fault is not None)
        if last_ns is not None and now > last_ns:
            pace.say(
                "the catalogue's encounters have ended; background traffic goes on; "
                "`sda-sim catalogue` makes new ones"
            )
            last_ns = None
        timeline.prepare(at_ms + AHEAD_MS)
        if at_ms >= now // 1_000_000:
            pace.clock.sleep(TICK_S)
    ran.stopped = pace.stop.asked
    ran.ended_ns = pace.clock.wall_ns()
    return ran


def encounters_by(scene: Scene, start_ns: int, end_ns: int) -> int:
    """How many encounters, natural ones included, have their TCA in the span."""
    return sum(start_ns <= e.tca_ns < end_ns for e in scene.encounters)


def play(
    messages: Iterable[tuple[Recorded, int]], total_bytes: int, speed: float | None, pace: Pace
) -> int:
    """Produce a recording with its own timestamps; returns how many messages.

    ``speed`` 1 keeps the recorded distances, 10 plays ten times faster, None as fast as the
    broker takes it.
    """
    progress = _Progress(total_bytes, pace.clock)
    first_ms: int | None = None
    began = pace.clock.monotonic_ns()
    played = 0
    for batch, position in _batches(messages, speed):
        at_ms = next((m.timestamp_ms for m in batch if m.timestamp_ms is not None), None)
        if speed is not None and at_ms is not None:
            first_ms = at_ms if first_ms is None else first_ms
            due = began + round((at_ms - first_ms) * 1_000_000 / speed)
            while not pace.stop.asked and (left := due - pace.clock.monotonic_ns()) > 0:
                pace.clock.sleep(min(left / SECOND_NS, 0.1))
        if pace.stop.asked:
            break
        pace.sender.send(batch)
        played += len(batch)
        progress.show(position, played)
    progress.end()
    return played


def _batches(
    messages: Iterable[tuple[Recorded, int]], speed: float | None
) -> Iterator[tuple[list[Recorded], int]]:
    """Lists to produce at once: bounded, and when paced no longer than a tick of playing time."""
    span_ms = float("inf") if speed is None else 1000.0 * TICK_S * speed
    batch: list[Recorded] = []
    position, batch_ms = 0, None
    for message, read in messages:
        at_ms = message.timestamp_ms
        apart = batch_ms is not None and at_ms is not None and at_ms - batch_ms > span_ms
        if batch and (apart or len(batch) >= PLAY_BATCH):
            yield batch, position
            batch, batch_ms = [], None
        batch_ms = at_ms if batch_ms is None else batch_ms
        batch.append(message)
        position = read
    if batch:
        yield batch, position


class _Progress:
    """One line on a terminal, redrawn; nothing when piped."""

    def __init__(self, total: int, clock: Clock) -> None:
        self._total, self._clock = max(1, total), clock
        self._shown, self._on = 0, sys.stderr.isatty()

    def show(self, position: int, played: int) -> None:
        now = self._clock.monotonic_ns()
        if self._on and now - self._shown >= PROGRESS_NS:
            self._shown = now
            share = 100.0 * position / self._total
            print(f"\rplayed {played:,} messages, {share:5.1f} %", end="", file=sys.stderr)

    def end(self) -> None:
        if self._on and self._shown:
            print(file=sys.stderr)
