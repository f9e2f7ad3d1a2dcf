"""A source's side of the broker: where it stands, what comes, how much waits, whether it answers.

An outage never ends a source: it is told once, nothing counts as idle during it, and afterwards
every partition is sought anew, to where the log says. Not what is done with a batch.
"""

from __future__ import annotations

from operators.core.batch import EMPTY, join
from operators.core.offsets import Offsets
from operators.core.watermark import EventClock, IdleTracker
from sda_pipeline.broker.port import Batch, Consumer, OffsetOutOfRange
from sda_pipeline.errors import Transient
from sda_pipeline.limits import BATCH_MESSAGES_MAX, BATCH_RAW_BYTES_MAX, LINGER_S, SECOND_NS
from sda_pipeline.records.frames import Counts, Part
from sda_pipeline.ring.board import UNKNOWN
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.vocabulary import Step

AWAY_WAIT_S = 0.1  # between two questions to a broker that refuses; a silent one takes its time
AWAY_WAIT_MAX_S = 1.6  # it doubles up to this
TELL_AGAIN_NS = 60 * SECOND_NS  # the same words about an outage that comes and goes


class Intake:
    """One incarnation's consumer. ``clock`` learns of new partitions, ``idle`` of outages."""

    def __init__(
        self, worker: Worker, consumer: Consumer, clock: EventClock, idle: IdleTracker
    ) -> None:
        self.worker, self.consumer, self.clock, self.idle = worker, consumer, clock, idle
        self.offsets = Offsets(())
        self._missing = Counts()  # not yet in a record
        self._placed = False  # the consumer stands where the log says
        self._sought: set[int] = set()  # the partitions of which that is so
        self._away_since: int | None = None  # monotonic ns
        self._away_wait_s = AWAY_WAIT_S
        self._told: tuple[str, int] = ("", -TELL_AGAIN_NS)  # of the outage told last, and when
        self._owes_back = False  # the present one was told
        self._commit_failed = False
        self._lag_word = f"{worker.name}.lag"

    def resume(self, parts: tuple[Part, ...]) -> None:
        """Continue from what the log's last record says; nothing is asked of the broker yet."""
        self.offsets = Offsets(parts)
        for part in parts:
            self.clock.watermarks[part.partition] = part.watermark

    def generation_of(self, partition: int) -> int | None:
        """The generation in which it stands, as the log names it; None when it knows of none."""
        return self.offsets.generations.get(partition)

    # --- where it stands ----------------------------------------------------------------------

    def find_places(self) -> None:
        """Seek every partition, unless that is done. Transient."""
        if self._placed:
            return
        self.watch_partitions(every=True)
        self._placed = True

    def watch_partitions(self, *, every: bool = False) -> None:
        """Take up partitions that are new at the broker; with ``every``, seek the known ones
        too.
        """
        found = self.consumer.partitions()
        new = [partition for partition in found if partition not in self.offsets.next]
        self._sought = set() if every else self._sought.intersection(found)  # one may come back
        for partition in found:
            if partition not in self._sought:
                self.worker.beat(Step.READ)
                self.clock.add(partition)
                self.locate(partition)
                self._sought.add(partition)
        if new:
            self.worker.event("partitions_taken_up", partitions=new)

    def locate(self, partition: int, end: int | None = None) -> None:
        """Seek to where the log says; what the broker no longer has is counted and told."""
        consumer = self.consumer
        life, start = consumer.generation(partition), consumer.log_start(partition)
        before = self.offsets.generations.get(partition)
        lost = self.offsets.locate(partition, life, start, end, consumer.unread(partition))
        generation = self.offsets.generations[partition]
        if before is not None and before != generation:
            self.worker.event("partition_begun_anew", partition=partition, generation=generation)
        if lost.missing:
            self.worker.event("offsets_missing", partition=partition, missing=lost.missing)
        self._missing = self._missing.plus(lost)
        consumer.seek(partition, self.offsets.next[partition])

    def take_missing(self) -> Counts:
        """What was found missing since the last record."""
        found, self._missing = self._missing, Counts()
        return found

    # --- what comes -----------------------------------------------------------------------------

    def consume(self) -> Batch:
        """Wait shortly for a first message, then linger for company. Transient."""
        try:
            batch = self.consumer.consume(BATCH_MESSAGES_MAX, BATCH_RAW_BYTES_MAX, LINGER_S)
        except OffsetOutOfRange as error:
            self.worker.event("offset_out_of_range", error=str(error))
            self.locate(error.partition, error.end)
            return EMPTY
        if batch.values:
            self._back()
        if not batch.values or len(batch.values) >= BATCH_MESSAGES_MAX:
            return batch
        size = sum(map(len, batch.values)) + sum(map(len, batch.keys))
        if size >= BATCH_RAW_BYTES_MAX // 2:
            return batch
        self.worker.wait(LINGER_S)
        try:
            rest = self.consumer.consume(
                BATCH_MESSAGES_MAX - len(batch.values), BATCH_RAW_BYTES_MAX - size, 0.0
            )
        except (OffsetOutOfRange, Transient):  # the next call meets it again
            return batch
        return join(batch, rest)

    def consumed(self, batch: Batch) -> set[int]:
        """A batch is dealt with: move past it, and past what will never come. Its partitions."""
        touched = self.offsets.consumed(batch)
        self._pass()
        return touched

    def _pass(self) -> None:
        """Move past what will never come; a batch that was handed out is dealt with before."""
        for partition in self.offsets.next:
            self.offsets.passed(partition, self.consumer.position(partition))

    def lag(self) -> dict[int, int]:
        """How many messages wait at the broker, by partition; also on the board. Transient.

        Asked when no batch is in hand: the next record then stands where the answer was true.
        """
        # Of a partition that the broker no longer has, nothing will come: it is as good as idle.
        lag = dict.fromkeys(self.offsets.next, 0) | self.consumer.lag()
        self.worker.board.set(self._lag_word, sum(lag.values()))
        self._pass()
        if not any(lag.values()):
            self._back()
        return lag

    def commit(self) -> None:
        """For observers: the log is the truth. What fails is said again with the next batch."""
        try:
            self.consumer.commit(self.offsets.next)
        except Transient as error:
            if not self._commit_failed:
                self.worker.event("commit_failed", error=str(error))
            self._commit_failed = True
        else:
            self._commit_failed = False

    def commit_again(self) -> None:
        """What failed, when no batch comes that would say it."""
        if self._commit_failed:
            self.commit()

    # --- whether it answers -----------------------------------------------------------------------

    def away(self, error: Transient) -> None:
        """The broker did not answer: nothing is idle, no lag is known. Pauses before the next."""
        worker = self.worker
        self.idle.away()
        self._placed = False
        worker.board.set(self._lag_word, UNKNOWN)
        now = worker.clock.monotonic_ns()
        if self._away_since is None:
            self._away_since = now
            words, last = str(error).partition(" (")[0], self._told  # without the times of day
            if words != last[0] or now - last[1] >= TELL_AGAIN_NS:
                self._told, self._owes_back = (words, now), True
                worker.event("broker_away", error=str(error))
        worker.wait(self._away_wait_s, step=Step.AWAY)
        self._away_wait_s = min(2 * self._away_wait_s, AWAY_WAIT_MAX_S)

    def _back(self) -> None:
        """Something came, or nothing waits: it can be read."""
        if self._away_since is not None and self._owes_back:
            away_s = (self.worker.clock.monotonic_ns() - self._away_since) / SECOND_NS
            self.worker.event("broker_back", away_s=round(away_s, 3))
        self._away_since, self._owes_back, self._away_wait_s = None, False, AWAY_WAIT_S
