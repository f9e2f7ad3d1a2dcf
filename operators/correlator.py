"""The correlator's shell: read, apply, one LMDB transaction, release, publish. Decisions are in
operators/core.
"""

from __future__ import annotations

from collections import deque

from operators.checkpoint import Checkpoints
from operators.core.correlation import Correlation
from operators.core.positions import Fate
from operators.core.quarantined import generations_of
from operators.core.step_effects import Effects
from operators.correlator_open import open_checkpoints
from operators.guard import Guard
from operators.held import Held
from sda_pipeline.errors import Rewind
from sda_pipeline.limits import EVALUATE_EVERY_NS, FRAME_BYTES_MAX, SECOND_NS
from sda_pipeline.records.alert import Entry
from sda_pipeline.records.frames import Frame, parse_header, parse_payload
from sda_pipeline.records.rows import Rows
from sda_pipeline.ring.endpoints import Slot
from sda_pipeline.runtime.in_flight import EVALUATION, BatchAt, Culprit
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.topology import load_inputs
from sda_pipeline.vocabulary import Step

READ_BYTES_MAX = 4 * FRAME_BYTES_MAX  # one batch; bounds the transaction and the pause
IDLE_WAIT_S = 0.5
SUMMARY_EVERY_NS = 10 * SECOND_NS


class _Loop:
    """One incarnation's loop state."""

    def __init__(self, worker: Worker, core: Correlation, checkpoints: Checkpoints) -> None:
        self.worker, self.core, self.checkpoints = worker, core, checkpoints
        self.input, self.output = worker.only_input, worker.only_output
        self.guard = Guard(worker)
        self.held = Held(worker, core, checkpoints.epoch)
        self.search_held = self.guard.suspects
        sink = worker.board.get("sink_pos")
        self.unpublished: deque[Entry] = deque(
            entry for entry in checkpoints.outbox if entry.position > sink
        )
        self.evaluated_at = 0
        self.summed_at = worker.clock.monotonic_ns()

    def publish_words(self) -> None:
        """Board words that report what the last commit made durable."""
        board = self.worker.board
        for source, position in self.core.positions.items():
            board.set(f"{source}.applied", position.position)
        board.set("outbox_end", self.checkpoints.outbox_end)
        board.set("epoch", self.checkpoints.epoch)
        board.set("dirty", self.core.dirty)

    def read(self) -> list[Slot]:
        """Every slot there is, up to the batch bound."""
        slots, size = [], 0
        while size < READ_BYTES_MAX and (slot := self.input.read()) is not None:
            slots.append(slot)
            size += len(slot.payload)
        return slots

    def select(self, slots: list[Slot]) -> list[tuple[str, Frame]]:
        """The frames not yet applied, verified; a gap is a rewind, never skipped."""
        sources = self.worker.topology.sources
        reached = {s: p.reached for s, p in self.core.positions.items()}
        frames = []
        for slot in slots:
            header = parse_header(slot.head)
            source = sources[header.source]
            fate = reached[source].fate(header)
            if fate is Fate.GAP:
                raise Rewind(
                    "apply a frame",
                    f"{source} jumped from {reached[source].position} to {header.position}"
                    f" of log {header.log_id:016x}",
                )
            if fate is Fate.APPLY:
                self.input.verify(slot)
                frames.append((source, parse_payload(header, slot.payload)))
                reached[source] = reached[source].after(header)
        return frames

    def step(self) -> bool:
        """One batch, the six numbered steps of DESIGN 5. True when there was anything to do."""
        worker = self.worker
        # 1 read all frames available, do not release them
        worker.beat(Step.READ)
        slots = self.read()
        worker.fail("after_read")
        # 2 drop what is applied already; a gap is a rewind
        frames = self.select(slots)
        worker.fail("after_select")
        # 3 the pure step
        worker.beat(Step.COMPUTE)
        self.begin(frames)
        effects = Effects()
        self.core.apply(frames, effects)
        evaluated = self.evaluation_due()
        if evaluated:
            self.evaluate(effects)
        worker.fail("after_step")
        # 4 one write transaction, synced
        worker.beat(Step.COMMIT)
        entries = self.checkpoints.commit(
            self.core, effects, worker.board.get("sink_pos"), lambda: worker.fail("inside_commit")
        )
        worker.fail("after_commit")
        # 5 board, then release
        self.publish_words()
        worker.fail("after_board")
        if slots:
            self.input.release(slots[-1].end)
        if slots or evaluated:
            self.guard.done()
        worker.fail("after_release")
        # 6 publish the outbox: what fits, in order, without blocking
        worker.beat(Step.PUBLISH)
        self.unpublished.extend(entries)
        published = self.publish()
        worker.fail("after_publish")
        return bool(slots) or published

    def begin(self, frames: list[tuple[str, Frame]]) -> None:
        """These are in flight from here on; in a suspect life what is held is tried first, then
        their rows one by one.
        """
        if self.search_held:
            self.search_held = False
            self.held.search(self.guard, self.checkpoints.stored_rows())
        if not frames:
            return
        sources = self.worker.topology.sources
        source, first = frames[0]
        self.guard.begin(BatchAt(sources.index(source) + 1, first.header.position))
        admitted = [(s, frame, self.core.admitted(s, frame)) for s, frame in frames]
        if self.guard.suspects:
            self.probe(
                [(s, f, rows[k : k + 1]) for s, f, rows in admitted for k in range(len(rows))]
            )
        for _, _, rows in admitted:
            self.worker.fail_rows(rows)

    def probe(self, alone: list[tuple[str, Frame, Rows]]) -> None:
        """Apply and evaluate each row alone, after what was dirty before, in a child."""
        core, epoch, now = self.core, self.checkpoints.epoch, self.worker.clock.wall_ns()

        def attempt(number: int) -> None:
            source, _, row = alone[number]
            for point in ("row", "evaluated"):
                self.worker.fail_rows(row, point)
            core.rehearse(source, row, epoch, now)

        def name(number: int) -> Culprit:
            source, frame, row = alone[number]
            partition = int(row["partition"][0])
            generation = generations_of(frame)[partition]
            index = self.worker.topology.sources.index(source)
            return Culprit(index, generation, partition, int(row["offset"][0]))

        self.guard.probe(len(alone), attempt, name, lambda: core.evaluate(epoch, now, Effects()))

    def evaluate(self, effects: Effects) -> None:
        """Evaluate what is dirty. A death here is not the batch's: it may be of rows that were
        applied long ago.
        """
        worker = self.worker
        self.guard.begin(EVALUATION)
        self.evaluated_at = worker.clock.monotonic_ns()
        self.held.pass_failpoint()
        self.core.evaluate(self.checkpoints.epoch, worker.clock.wall_ns(), effects)

    def evaluation_due(self) -> bool:
        """At most every 100 ms, also without input."""
        waited = self.worker.clock.monotonic_ns() - self.evaluated_at
        return self.core.pending and waited >= EVALUATE_EVERY_NS

    def publish(self) -> bool:
        """Move entries from memory to the ring until it is full."""
        sent = False
        while self.unpublished:
            entry = self.unpublished[0]
            if not self.output.try_publish(entry.head(), (entry.body,), entry.crc()):
                break
            self.unpublished.popleft()
            sent = True
        return sent

    def pause(self) -> None:
        """Use an idle moment for the schedule ahead, else wait for frames, room, or the
        evaluation.
        """
        if self.core.prefetch():
            return
        fds = [self.input.data_fd]
        if self.unpublished:
            fds.append(self.output.space_fd)
        timeout_s = IDLE_WAIT_S
        if self.core.pending:
            waited = self.worker.clock.monotonic_ns() - self.evaluated_at
            timeout_s = max(0.0, (EVALUATE_EVERY_NS - waited) / SECOND_NS)
        self.worker.wait(timeout_s, fds)

    def drained(self) -> bool:
        """Nothing left to read, evaluate or publish; pending windows stay pending in the store."""
        return self.input.empty() and not self.core.dirty and not self.unpublished

    def summarize(self, *, force: bool = False) -> None:
        """Tell the checkpoint pauses of the last ten seconds."""
        now = self.worker.clock.monotonic_ns()
        if force or now - self.summed_at >= SUMMARY_EVERY_NS:
            self.summed_at = now
            summary = self.checkpoints.summary()
            if summary:
                self.worker.event("checkpoints", **summary)


def run(worker: Worker) -> None:
    """Recover from the store, then correlate until drained."""
    worker.beat(Step.RECOVER)
    inputs = load_inputs(worker.topology)
    for satno, why in inputs.catalogue.refused:
        worker.event("object_refused", satno=satno, why=why)
    core, checkpoints = open_checkpoints(worker, inputs)
    loop = _Loop(worker, core, checkpoints)
    loop.publish_words()
    worker.ready()
    while not worker.finished(loop.drained):
        if not loop.step():
            loop.pause()
        loop.summarize()
    loop.summarize(force=True)
    checkpoints.close()
