"""The DLQ sink: what the sources refused, into the DLQ's files, each record once. No decisions on
records.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from sda_pipeline.dlq.entry import Entry, entry_of
from sda_pipeline.dlq.files import DlqFiles
from sda_pipeline.dlq.marks import NOTHING, Mark, take
from sda_pipeline.errors import StateCorrupt
from sda_pipeline.limits import REJECT_CHUNK_BYTES
from sda_pipeline.records.rejects import Reject, RejectHead, unpack_rejects
from sda_pipeline.ring.endpoints import Consumer
from sda_pipeline.runtime.worker import Worker, check_not_behind
from sda_pipeline.vocabulary import Step

DIRECTORY = "dlq"
READ_BYTES_MAX = 4 * REJECT_CHUNK_BYTES  # of one source in one batch; bounds memory and the sync
IDLE_WAIT_S = 0.5


class _Chunk(NamedTuple):
    """One slot taken apart."""

    head: RejectHead
    rejects: list[Reject]


class _Loop:
    """One incarnation's loop state."""

    def __init__(self, worker: Worker, files: DlqFiles) -> None:
        self.worker, self.files = worker, files
        self.sources = worker.topology.sources
        topics = {spec.name: spec.topic or "" for spec in worker.topology.operators}
        self.topics = [topics[source] for source in self.sources]
        self.ids: dict[str, tuple[int, frozenset[str]]] = {}  # of sources whose log was replaced

    def step(self) -> bool:
        """One batch, the three numbered steps of DESIGN 5. True when there was anything to do."""
        worker = self.worker
        # 1 read what is there, up to a bound; do not release it
        worker.beat(Step.READ)
        chunks: list[_Chunk] = []
        ends: list[tuple[Consumer, int]] = []
        for consumer in worker.inputs.values():
            end = self.read(consumer, chunks)
            if end is not None:
                ends.append((consumer, end))
        if not ends:
            self.publish_done()
            return False
        worker.fail("after_read")
        # 2 skip what is in the files already; append, sync; progress moves the mark too
        worker.beat(Step.COMMIT)
        entries, marks = self.select(chunks)
        self.files.append(entries, worker.clock.wall_ns())
        worker.fail("after_append")
        self.files.sync(marks)
        worker.fail("after_sync")
        # 3 board, then release
        self.publish_done()
        worker.fail("after_board")
        worker.beat(Step.RELEASE)
        for consumer, end in ends:
            consumer.release(end)
        worker.fail("after_release")
        word = f"{worker.name}.events"
        worker.board.set(word, worker.board.get(word) + len(entries))
        return True

    def read(self, consumer: Consumer, chunks: list[_Chunk]) -> int | None:
        """Add what one source sent; returns where to release to, None when there is nothing."""
        end, size = None, 0
        while size < READ_BYTES_MAX and (slot := consumer.read()) is not None:
            consumer.verify(slot)
            chunk = _Chunk(RejectHead.unpack(slot.head), unpack_rejects(slot.payload))
            if len(chunk.rejects) != chunk.head.count or chunk.head.source >= len(self.sources):
                raise StateCorrupt(
                    "read rejects", f"the head {chunk.head} does not fit its payload"
                )
            chunks.append(chunk)
            end, size = slot.end, size + len(slot.payload)
        return end

    def select(self, chunks: list[_Chunk]) -> tuple[list[Entry], dict[str, Mark]]:
        """The entries that are not in the files, and the marks when they are."""
        entries: list[Entry] = []
        marks: dict[str, Mark] = {}
        for head, rejects in chunks:
            source, topic = self.sources[head.source], self.topics[head.source]
            skip, mark = take(marks.get(source) or self.files.marks.get(source, NOTHING), head)
            new = [
                entry_of(reject, head, index, source, topic)
                for index, reject in enumerate(rejects[skip:], head.first + skip)
            ]
            if new and (mark.replaced or head.position <= mark.again):
                known = self.known_ids(source, mark.log_id, entries)
                new = [entry for entry in new if entry.dlq_id not in known]
            entries += new
            marks[source] = msgspec.structs.replace(mark, entries=mark.entries + len(new))
        return entries, marks

    def known_ids(self, source: str, log_id: int, pending: list[Entry]) -> frozenset[str]:
        """What was written of a source before its log ``log_id`` began to send.

        ``pending`` is of this batch and not in the files yet. A log may be replaced again and
        again.
        """
        about, known = self.ids.get(source, (0, frozenset[str]()))
        if about != log_id:
            before = (entry.dlq_id for entry in pending if entry.operator == source)
            known = self.files.known_ids(source).union(before)
            self.ids[source] = log_id, known
        return known

    def publish_done(self) -> None:
        """``dlq_done`` of every source; 0 for a log that is not the one its mark speaks of.

        Which one that is stands beside it, and is taken back while ``dlq_done`` is of another.
        """
        board = self.worker.board
        for source in self.sources:
            mark = self.files.marks.get(source, NOTHING)
            current, about = board.get(f"{source}.log_id"), f"{source}.dlq_log"
            if board.get(about) != mark.log_id:
                board.set(about, 0)
            board.set(f"{source}.dlq_done", mark.done if current in {0, mark.log_id} else 0)
            board.set(about, mark.log_id)

    def expire(self) -> None:
        """Delete what is older than the retention, once a day, and say so."""
        for name in self.files.expire(self.worker.clock.wall_ns()):
            self.worker.event("dlq_expired", file=name)

    def drained(self) -> bool:
        return all(consumer.empty() for consumer in self.worker.inputs.values())


def run(worker: Worker) -> None:
    """Recover the marks from the files, then write what the sources refuse until drained."""
    worker.beat(Step.RECOVER)
    with DlqFiles(worker.topology.state / DIRECTORY, worker.fail) as files:
        for fault in files.faults:
            worker.event("dlq_repaired", why=fault)
        for source in worker.topology.sources:
            done = files.marks.get(source, NOTHING).done
            check_not_behind(worker, f"{source}.dlq_done", done)
        loop = _Loop(worker, files)
        loop.publish_done()
        worker.ready()
        loop.expire()
        while not worker.finished(loop.drained):
            if not loop.step():
                loop.expire()
                worker.wait(IDLE_WAIT_S, [ring.data_fd for ring in worker.inputs.values()])
