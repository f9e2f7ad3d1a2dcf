"""The alert sink: every alert record into alerts.sqlite, from there on to the subscriber.

The table is the outbox: only what is durable here is delivered. Not where an alert has its effect.
"""

from __future__ import annotations

from collections import deque

from operators.core.dedup import DedupSet
from operators.core.effects import NOT_CONFIRMED, Verdict, close, judge
from operators.core.outbox import KIND_HORIZON, NO_HORIZON, Place, place_of
from operators.outbox_input import Batch, Item, OutboxInput
from sda_pipeline.limits import DEDUP_ENTRIES_MAX, DRAIN_WITHIN_S, SECOND_NS
from sda_pipeline.records.alert import Entry
from sda_pipeline.runtime.worker import Worker, check_not_behind
from sda_pipeline.state.alert_log import AlertLog
from sda_pipeline.vocabulary import Step

FILE_NAME = "alerts.sqlite"
IDLE_WAIT_S = 0.5
DELIVER_ENTRIES_MAX = 256  # read from the table at a time
CONFIRM_EVERY_NS = SECOND_NS  # an idle sink writes down so often what the subscriber confirmed
OVERDUE_NS = 5 * SECOND_NS  # an entry the subscriber has not confirmed for so long is marked, once


class _Loop:
    """One incarnation's loop state."""

    def __init__(self, worker: Worker, log: AlertLog) -> None:
        self.worker, self.log = worker, log
        self.input, self.output = OutboxInput(worker.only_input), worker.only_output
        self.dedup = DedupSet()
        now = worker.clock.monotonic_ns()
        self.dedup.add(log.recent_keys(DEDUP_ENTRIES_MAX), now)
        self.duplicates = self.refused = 0
        self.sent = worker.board.get("sub_pos")  # position of the last entry put on the ring
        self.horizon = self.missing_before()
        self.unconfirmed: deque[tuple[int, int]] = deque()  # (position, since when, monotonic ns)
        if log.position > self.sent:
            self.unconfirmed.append((log.position, now))
        self.draining_since: int | None = None
        self.confirmed_at = 0

    def missing_before(self) -> int:
        """Where the table begins, if entries the subscriber lacks are pruned; else NO_HORIZON."""
        first = self.log.entries_above(self.sent, 1)
        if not first or place_of(self.sent, first[0].position) is not Place.GAP:
            return NO_HORIZON
        return first[0].position

    def step(self) -> bool:
        """One batch, the five numbered steps of DESIGN 5. True when there was anything to do."""
        worker = self.worker
        # 1 read what is there, up to a bound; do not release it
        worker.beat(Step.READ)
        batch = self.input.read(self.log.position)
        if batch.end is not None:
            worker.fail("after_read")
            # 2 DedupSet: records known to be stored
            repeated = self.repeated(batch)
            worker.fail("after_dedup")
            # 3 one transaction: alert records, outbox entries, position
            worker.beat(Step.COMMIT)
            if batch.items:
                with self.log.transaction():
                    self.store(batch, repeated)
                    worker.fail("inside_commit")
            worker.fail("after_commit")
            # 4 board, then release
            self.note_stored(batch)
            worker.board.set("sink_pos", self.log.position)
            worker.fail("after_board")
            worker.beat(Step.RELEASE)
            self.input.ring.release(batch.end)
            worker.fail("after_release")
        # 5 deliver from the table, without blocking
        worker.beat(Step.PUBLISH)
        delivered = self.deliver()
        if delivered:
            worker.fail("after_deliver")
        self.mark_overdue()
        return batch.end is not None or delivered

    def repeated(self, batch: Batch) -> set[int]:
        """Positions of the entries whose record the DedupSet knows."""
        now = self.worker.clock.monotonic_ns()
        return {
            item.entry.position
            for item in batch.items
            if item.change is not None
            and self.dedup.known((item.change.alert_id, item.change.sequence), now)
        }

    def store(self, batch: Batch, repeated: set[int]) -> None:
        """Every entry into the outbox, every new record into the log. Inside the transaction."""
        for item in batch.items:
            self.log.add_entry(item.entry)
            if item.change is None:
                self.close_through(item)
            elif item.entry.position in repeated:
                self.duplicates += 1
            else:
                self.add(item)
        confirmed = self.worker.board.get("sub_pos")
        self.log.confirm(confirmed)
        self.log.prune(confirmed)

    def add(self, item: Item) -> None:
        """The records of one entry, unless they are known or too old."""
        change = item.change
        assert change is not None, "the caller has looked"
        verdict = judge(self.log.stored(change.alert_id), change, self.log.newest_closes_ns)
        self.duplicates += verdict is Verdict.DUPLICATE
        self.refused += verdict is Verdict.REFUSED
        if verdict is Verdict.ACCEPTED:
            self.log.add_records(change, item.entry.position, item.bodies)

    def close_through(self, item: Item) -> None:
        """Withdraw what an older epoch left provisional and nobody confirmed."""
        position = item.entry.position
        for alert_id, stored, body in self.log.open_before(item.closed_ns):
            outcome = close(stored, position, item.closed_ns)
            if outcome.effect is not None:
                self.log.add_withdrawal(
                    alert_id, outcome.stored, position, body, reason=NOT_CONFIRMED
                )

    def note_stored(self, batch: Batch) -> None:
        """What the commit made true. After it, so the DedupSet skips only what is stored."""
        if not batch.items:
            return
        now = self.worker.clock.monotonic_ns()
        changes = [item.change for item in batch.items if item.change is not None]
        self.dedup.add(((change.alert_id, change.sequence) for change in changes), now)
        self.unconfirmed.append((self.log.position, now))
        self.duplicates += batch.known
        word = f"{self.worker.name}.events"
        self.worker.board.set(word, self.worker.board.get(word) + len(batch.items))

    def deliver(self) -> bool:
        """Move entries from the table to the ring until it is full or all are there."""
        delivered = False
        while self.sent < self.log.position:
            for entry in self.log.entries_above(self.sent, DELIVER_ENTRIES_MAX):
                if not self.put(entry):
                    return delivered
                self.sent, delivered = entry.position, True
        return delivered

    def put(self, entry: Entry) -> bool:
        """One entry onto the ring, after the horizon if it is not yet announced."""
        if entry.position == self.horizon:
            mark = Entry(self.horizon, KIND_HORIZON, 0, b"")
            if not self.output.try_publish(mark.head(), (), mark.crc()):
                return False
            self.worker.event("horizon_announced", position=self.horizon)
            self.horizon = NO_HORIZON
        return self.output.try_publish(entry.head(), (entry.body,), entry.crc())

    def mark_overdue(self) -> None:
        """Mark and log, once, what the subscriber has not confirmed in time."""
        confirmed, now = self.worker.board.get("sub_pos"), self.worker.clock.monotonic_ns()
        while self.unconfirmed and self.unconfirmed[0][0] <= confirmed:
            self.unconfirmed.popleft()
        through = confirmed
        while self.unconfirmed and now - self.unconfirmed[0][1] >= OVERDUE_NS:
            through, _ = self.unconfirmed.popleft()
        if through > confirmed and (marked := self.log.mark_overdue(confirmed, through)):
            self.worker.event(
                "alerts_overdue", records=marked, confirmed=confirmed, through=through
            )

    def drained(self) -> bool:
        """All read and all delivered, or the ring has not taken it within the drain's bound."""
        if not self.input.ring.empty():
            return False
        if self.sent >= self.log.position:
            return True
        now = self.worker.clock.monotonic_ns()
        if self.draining_since is None:
            self.draining_since = now
        if now - self.draining_since < DRAIN_WITHIN_S * SECOND_NS:
            return False
        self.worker.event("drain_incomplete", sent=self.sent, position=self.log.position)
        return True

    def note_confirmed(self) -> None:
        """Write down what the subscriber has confirmed since the last entry: for an audit, which
        could not tell else that its store was lost.
        """
        confirmed, self.confirmed_at = self.worker.board.get("sub_pos"), self._now()
        if confirmed > self.log.confirmed:
            with self.log.transaction():
                self.log.confirm(confirmed)

    def _now(self) -> int:
        return self.worker.clock.monotonic_ns()

    def pause(self) -> None:
        """Wait for entries, for room when some are held back, or for the heartbeat's turn."""
        if self._now() - self.confirmed_at >= CONFIRM_EVERY_NS:
            self.note_confirmed()
        fds = [self.input.ring.data_fd]
        if self.sent < self.log.position:
            fds.append(self.output.space_fd)
        self.worker.wait(IDLE_WAIT_S, fds)


def run(worker: Worker) -> None:
    """Recover from the table, then store and deliver until drained."""
    worker.beat(Step.RECOVER)
    with AlertLog(worker.topology.state / FILE_NAME) as log:
        worker.fail("recovery_open")
        worker.event("recovered", position=log.position, created=log.created)
        check_not_behind(worker, "sink_pos", log.position)
        worker.board.set("sink_pos", log.position)
        loop = _Loop(worker, log)
        worker.ready()
        while not worker.finished(loop.drained):
            if not loop.step():
                loop.pause()
        loop.note_confirmed()
        worker.event("counts", duplicates=loop.duplicates, refused=loop.refused)
