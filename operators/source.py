"""A source's shell: consume, reduce, log, sync, publish, commit (DESIGN 5).

The log is the truth it owns.
"""

from __future__ import annotations

from operators.core.batch import Source, build_frame
from operators.core.reduction import Reducer
from operators.core.watermark import EventClock, IdleTracker
from operators.digest import Digester
from operators.intake import Intake
from operators.log_retention import LogRetention
from operators.lost_rejects import LostRejects
from operators.outlet import BLOCKED_WAIT_S, Outlet
from operators.reject_cursor import RejectCursor
from operators.source_open import Opened, open_source
from sda_pipeline.astro.trajectory import Trajectory
from sda_pipeline.errors import Transient
from sda_pipeline.limits import SECOND_NS, TIME_END_NS
from sda_pipeline.records.frames import KIND_END, KIND_IDLE, KIND_ROWS, Counts, Part
from sda_pipeline.records.rejects import Reject, pack_rejects
from sda_pipeline.records.rows import Rows
from sda_pipeline.runtime.disk import DiskReserve
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.settings import KIND_CODES
from sda_pipeline.topology import load_inputs
from sda_pipeline.vocabulary import Step

IDLE_POLL_S = 0.25
WATCH_EVERY_NS = 1 * SECOND_NS  # look for new partitions: what is late in them counts from then
SWEEP_EVERY_NS = 30 * SECOND_NS  # delete what nobody needs


class SourceLoop:
    """One incarnation of one source."""

    def __init__(self, worker: Worker, opened: Opened, reducer: Reducer, source: Source) -> None:
        self.worker, self.source = worker, source
        self.log = opened.log
        name, settings = worker.name, worker.topology.event_time
        self.outlet = Outlet(worker, self.send_rejects)
        words = (
            "log_end", "lag", "log_id", "log_first", "watermark", "ended", "reported", "missing",
        )  # fmt: skip
        self.words = {word: f"{name}.{word}" for word in words}
        kind = worker.kind.removesuffix("-source")
        last = self.log.last()
        self.ended = last is not None and last.header.watermark == TIME_END_NS
        self.counts = Counts()
        self.clock = EventClock(
            round(settings.max_lateness_s[kind] * SECOND_NS),
            round(settings.allowed_lateness_s * SECOND_NS),
        )
        idle_s = None if worker.launch.flags.end_of_input else settings.idle_after_s
        self.idle = IdleTracker(None if idle_s is None else round(idle_s * SECOND_NS))
        self.intake = Intake(worker, opened.consumer, self.clock, self.idle)
        reserve = worker.topology.disk_reserve_bytes
        self.disk = DiskReserve(worker.topology.state, reserve, worker.event)
        self.watched_at = self.swept_at = worker.clock.monotonic_ns()
        self.digester = Digester(
            worker, source.index, reducer, opened.open_again, self.intake.generation_of
        )
        lost = opened.lost and LostRejects(opened.lost, self.digester, worker.event)
        self.rejects = RejectCursor(worker, source.index, self.log, opened.dlq_done, lost)
        self.retention = LogRetention(worker, self.log)

    def resume(self, parts: tuple[Part, ...], counts: Counts) -> None:
        """Continue from what the log's last record says."""
        self.counts = counts
        self.intake.resume(parts)

    def publish_words(self) -> None:
        """Board words that report what the log holds, durably."""
        board = self.worker.board
        board.set(self.words["log_first"], self.source.log_first)
        board.set(self.words["log_id"], self.log.log_id)
        board.set(self.words["log_end"], self.log.end)
        board.set(self.words["watermark"], max(self.clock.source_watermark(), 0))
        board.set(self.words["ended"], int(self.ended))
        board.set(self.words["reported"], self.counts.reported)
        board.set(self.words["missing"], self.counts.missing)

    def send_rejects(self) -> None:
        """Let the second cursor send what fits."""
        clock = self.worker.clock
        self.rejects.send(clock.monotonic_ns(), clock.wall_ns(), hurry=self.ended)

    def step(self) -> bool:
        """One batch, the six numbered steps of DESIGN 5.

        False when there was nothing to consume.
        """
        worker = self.worker
        # 1 consume a batch
        worker.beat(Step.READ)
        batch = self.intake.consume()
        if not len(batch.values):
            return self.mark_idle_or_end()
        ingest = worker.clock.wall_ns()
        worker.fail("after_consume")
        # 2 decode, validate, reduce; lateness; keep rejects with their raw bytes
        worker.beat(Step.COMPUTE)
        digested = self.digester.digest(batch, self.intake.offsets, self.clock, ingest)
        self.counts = self.counts.plus(digested.counts)
        self.idle.consumed(self.intake.consumed(batch))
        worker.fail("after_reduce")
        # 3-5 append, sync, publish
        self.record(KIND_ROWS, ingest, digested.rows, digested.rejects)
        # 6 commit to the broker, for observers: the log is the truth
        worker.beat(Step.COMMIT)
        self.intake.commit()
        worker.fail("after_broker_commit")
        self.mark_idle(self.intake.lag())
        return True

    def record(
        self, kind: int, ingest: int, rows: Rows | None = None, rejects: list[Reject] | None = None
    ) -> None:
        """Steps 3 to 5: make one frame durable, then publish it."""
        worker = self.worker
        ended = self.ended or kind == KIND_END
        self.counts = self.counts.plus(self.intake.take_missing())
        watermark = TIME_END_NS if ended else self.clock.source_watermark()
        built = build_frame(
            self.source, kind, self.log.end + 1, watermark, ingest,
            self.intake.offsets.parts(self.clock), self.counts, rows,
        )  # fmt: skip
        # 3 append one record to the source log
        worker.beat(Step.COMMIT)
        self.log.append(built.header, built.payload, pack_rejects(rejects) if rejects else b"")
        worker.fail("after_append")
        # 4 fdatasync; only now may the board and the rings know of it
        self.log.sync()
        worker.fail("after_sync")
        self.digester.done()
        self.ended = ended
        self.publish_words()
        if rejects:
            self.rejects.logged(self.log.end)
        # 5 publish the frame
        worker.beat(Step.PUBLISH)
        if self.outlet.publish(built):
            self.idle.busy()
        self.send_rejects()
        worker.fail("after_publish")

    def report_quarantined(self) -> None:
        """Log the originals of rows that the correlator had to skip, each once, as rejects."""
        while (reject := self.digester.next_report(self.counts.reported)) is not None:
            self.counts = self.counts.plus(Counts(reported=1))
            self.record(KIND_ROWS, self.worker.clock.wall_ns(), rejects=[reject])

    def mark_idle_or_end(self) -> bool:
        """Nothing was there: END at lag 0 of a finite input, else an idle marker when one is due.
        True when it should look again at once.
        """
        lag = self.intake.lag()
        behind = any(lag.values())
        if not behind and self.worker.launch.flags.end_of_input:
            self.intake.watch_partitions()  # one that is new belongs to the input
            if not any(self.intake.lag().values()):
                self.record(KIND_END, self.worker.clock.wall_ns())
            return True
        self.mark_idle(lag)
        return behind

    def mark_idle(self, lag: dict[int, int]) -> None:
        """The broker has just confirmed this lag: append an idle marker when one is due."""
        clock = self.worker.clock
        marks = self.idle.observe(clock.monotonic_ns(), clock.wall_ns(), lag, self.clock)
        if not marks:
            return
        new = [partition for partition in marks if not self.clock.watermarks.get(partition)]
        if new:  # nothing but the wall clock is known of these
            self.worker.event("idle_without_history", partitions=new)
        self.clock.advance(marks)
        self.record(KIND_IDLE, clock.wall_ns())

    def turn(self) -> None:
        """Once around; while the broker does not answer, a pause. Whatever a step has not logged
        by then comes again.
        """
        try:
            self.intake.find_places()
            self.take_turn()
        except Transient as error:
            self.send_rejects()
            self.intake.away(error)

    def take_turn(self) -> None:
        """What is due, then one batch, or a pause. Transient."""
        worker = self.worker
        self.report_quarantined()
        applied = worker.board.get(f"{worker.name}.applied")
        if self.outlet.resend(self.log, applied, worker.clock.monotonic_ns()):
            worker.event("resent", applied=applied, end=self.log.end)
        if self.ended:
            self.intake.lag()
            self.send_rejects()
            worker.wait(IDLE_POLL_S)
        elif not self.disk.enough(worker.clock.monotonic_ns()):
            self.idle.busy()
            self.intake.lag()  # for observers: it grows
            worker.wait(BLOCKED_WAIT_S, step=Step.PAUSED)
        elif not self.step():
            self.send_rejects()
            worker.beat(Step.WAIT)
        self.upkeep()

    def upkeep(self) -> None:
        """Now and then: take up new partitions, delete log segments that nobody needs any more."""
        now = self.worker.clock.monotonic_ns()
        if now - self.watched_at >= WATCH_EVERY_NS:
            self.watched_at = now
            self.intake.watch_partitions()
            self.intake.commit_again()
        if now - self.swept_at >= SWEEP_EVERY_NS:
            self.swept_at = now
            self.retention.sweep()


def run(worker: Worker) -> None:
    """Open the log, tell where it stands, re-publish what is not applied, then consume until told
    to stop.
    """
    worker.beat(Step.RECOVER)
    inputs = load_inputs(worker.topology)
    kind = KIND_CODES[worker.kind.removesuffix("-source")]
    topology = worker.topology
    opened = open_source(worker, inputs.hash)
    reducer = Reducer(
        kind, inputs.catalogue, Trajectory(inputs.catalogue), inputs.sensors, topology.physics
    )
    never_shed = worker.launch.flags.finite or topology.event_time.idle_after_s is None
    index = topology.sources.index(worker.name)
    source = Source(index, opened.log.log_id, inputs.hash, never_shed, opened.log_first)
    loop = SourceLoop(worker, opened, reducer, source)
    loop.resume(opened.parts, opened.counts)
    loop.publish_words()
    worker.ready()
    # never from the board: it may speak of another log by now
    loop.outlet.republish(opened.log, opened.applied)
    worker.fail("recovery_republished")
    while not worker.stopping:
        loop.turn()
    opened.log.close()
    opened.consumer.close()
