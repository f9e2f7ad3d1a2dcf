"""Producing to the broker with patience, and stopping when asked. Not what is produced."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterable
from types import FrameType

from sda_pipeline.broker.port import OutMessage, Producer
from sda_pipeline.cli.sim.recording import Recorded
from sda_pipeline.clock import Clock
from sda_pipeline.errors import Transient, Unreachable
from sda_pipeline.limits import SECOND_NS

PATIENCE_S = 60.0  # a full broker empties as the pipeline consumes; after so long it does not run
RETRY_S = (0.05, 1.0)  # first pause, longest pause
FLUSH_S = 30.0


class Stop:
    """Turns SIGINT and SIGTERM into ``asked``; a second signal has its usual effect."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        """Start listening (main thread only)."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._heard)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(number, signal.SIG_DFL)


class Sender:
    """Counts by topic what it has produced. ``say`` takes lines for the person at the terminal."""

    def __init__(
        self,
        producer: Producer,
        partitions: int,
        clock: Clock,
        stop: Stop,
        say: Callable[[str], None],
    ) -> None:
        self.sent: Counter[str] = Counter()
        self._producer, self._partitions = producer, partitions
        self._clock, self._stop, self._say = clock, stop, say
        self._known: set[str] = set()

    def send(self, messages: Iterable[Recorded]) -> None:
        """Produce, in order within each topic; those without a timestamp get the time of sending.

        Waits while the broker is full. Raises Unreachable when it stays so; returns early on a
        stop.
        """
        by_topic: dict[str, list[OutMessage]] = {}
        now_ms = self._clock.wall_ns() // 1_000_000
        for topic, key, value, timestamp_ms, headers in messages:
            at = now_ms if timestamp_ms is None else timestamp_ms
            by_topic.setdefault(topic, []).append(OutMessage(key, value, at, headers))
        for topic, batch in by_topic.items():
            if self._patiently(topic, batch):
                self.sent[topic] += len(batch)

    def _patiently(self, topic: str, batch: list[OutMessage]) -> bool:
        pause, longest = RETRY_S
        since = self._clock.monotonic_ns()
        while True:
            try:
                if topic not in self._known:
                    self._producer.create_topic(topic, self._partitions)
                    self._known.add(topic)
                self._producer.produce(topic, batch)
            except Transient as error:
                waited_s = (self._clock.monotonic_ns() - since) / SECOND_NS
                if waited_s > PATIENCE_S:
                    raise Unreachable(
                        f"produce to {topic}", f"{error.why} for {PATIENCE_S:.0f} s",
                        "start the pipeline so that it consumes",
                    ) from error  # fmt: skip
                if self._stop.asked:
                    return False
                if pause == RETRY_S[0]:
                    self._say(f"waiting for the broker: {error.why}")
                self._clock.sleep(pause)
                pause = min(2.0 * pause, longest)
            else:
                return True

    def close(self) -> None:
        """Wait until the broker has it all, and let go of it. Unreachable when that lasts."""
        try:
            self._producer.flush(FLUSH_S)
        except Transient as error:
            hint = "see that the broker runs: what it has not acknowledged is not sent any more"
            raise Unreachable(error.action, error.why, hint) from error
        finally:
            self._producer.close()
