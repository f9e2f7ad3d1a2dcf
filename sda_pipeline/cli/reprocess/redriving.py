"""Sending: the ledger's intent, the broker, its acknowledgement, the ledger's end. No decisions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from sda_pipeline import failpoints
from sda_pipeline.broker.port import OutMessage, Producer
from sda_pipeline.clock import Clock
from sda_pipeline.dlq.redrive import Outcome, chunks, timestamp_of
from sda_pipeline.dlq.redrive_headers import write_headers
from sda_pipeline.dlq.reprocess_ledger import ReprocessLedger
from sda_pipeline.errors import Transient, Unreachable
from sda_pipeline.limits import REDRIVE_CHUNK_BYTES, REDRIVE_CHUNK_MESSAGES, SECOND_NS

PATIENCE_S = 60.0  # a full broker empties as the pipeline consumes
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
FLUSH_S = 30.0
CHUNKS_PER_SECOND = 4  # with a rate: small chunks, evenly spaced


class Redriver:
    """Sends what outcomes say is to be sent. ``sent`` counts what is acknowledged and noted."""

    def __init__(self, producer: Producer, ledger: ReprocessLedger, clock: Clock) -> None:
        self.sent = 0
        self._producer, self._ledger, self._clock = producer, ledger, clock

    def create(self, topic: str, partitions: int) -> None:
        """Make sure that a topic to try things out in exists."""
        self._patiently(topic, lambda: self._producer.create_topic(topic, partitions))

    def send(
        self, outcomes: Sequence[Outcome], rate: float | None, told: Callable[[int], None]
    ) -> None:
        """All of them, at most ``rate`` a second; ``told`` hears how many after each chunk.

        Unreachable when the broker does not take or acknowledge them; a second run goes on.
        """
        began, size = self._clock.monotonic_ns(), REDRIVE_CHUNK_MESSAGES
        if rate is not None:
            size = max(1, min(size, math.floor(rate / CHUNKS_PER_SECOND)))
        for chunk in chunks(outcomes, size, REDRIVE_CHUNK_BYTES):
            if rate is not None:
                due = began + round(self.sent / rate * SECOND_NS)
                self._clock.sleep(max(0, due - self._clock.monotonic_ns()) / SECOND_NS)
            self._send_chunk(chunk)
            told(len(chunk))

    def _send_chunk(self, chunk: Sequence[Outcome]) -> None:
        """One chunk, to one topic, in four durable steps.

        A kill after 1 leaves intents without an end. The next run sends such a record again unless
        the log holds it or it came back; if the broker had it after all, the pipeline knows the
        second copy by object, pane and id: a duplicate, or in the DLQ another life of one root.
        """
        topic = chunk[0].facts.topic
        # 1 the ledger says what is about to be sent
        intents = [outcome.intent for outcome in chunk]
        sendings = self._ledger.intend(intents, self._clock.wall_ns())
        failpoints.hit("reprocess.after_intent")
        # 2 produce: original bytes, key and timestamp
        messages = [_message(outcome) for outcome in chunk]
        self._patiently(topic, lambda: self._producer.produce(topic, messages))
        failpoints.hit("reprocess.after_produce")
        # 3 the broker acknowledges
        try:
            self._producer.flush(FLUSH_S)
        except Transient as error:
            raise Unreachable(
                error.action, error.why, "see the broker, then run it again"
            ) from error
        failpoints.hit("reprocess.after_ack")
        # 4 the ledger says that it has them
        self._ledger.complete(sendings, self._clock.wall_ns())
        failpoints.hit("reprocess.after_done")
        self.sent += len(chunk)

    def close(self) -> None:
        """Let go of the broker."""
        self._producer.close()

    def _patiently(self, topic: str, act: Callable[[], None]) -> None:
        """Try again while the broker is full, for a bounded time; all or nothing each time."""
        pause = FIRST_PAUSE_S
        since = self._clock.monotonic_ns()
        while True:
            try:
                act()
            except Transient as error:
                if self._clock.monotonic_ns() - since > PATIENCE_S * SECOND_NS:
                    why = f"{error.why} for {PATIENCE_S:.0f} s"
                    hint = "start the pipeline so that it consumes, then run it again"
                    raise Unreachable(f"produce to {topic}", why, hint) from error
                self._clock.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                return


def _message(outcome: Outcome) -> OutMessage:
    entry = outcome.entry
    headers = write_headers(outcome.intent.root, outcome.attempts)
    return OutMessage(entry.key_bytes, entry.original_payload, timestamp_of(entry), headers)
