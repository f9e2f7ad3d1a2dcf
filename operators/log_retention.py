"""Which segments of a source's log nobody needs any more (SPEC 4). Not the deleting of a file."""

from __future__ import annotations

from operators.reject_cursor import dlq_done
from sda_pipeline.limits import SECOND_NS, TIME_END_NS
from sda_pipeline.log.source_log import SourceLog
from sda_pipeline.runtime.worker import Worker


class LogRetention:
    """Keeps what the correlator, the DLQ and every retained snapshot may ask for.

    ``log_bytes_max`` beats the age and all snapshots but the newest local one; when it deletes what
    the newest remote snapshot would need, the remote horizon is lost, and that is told.
    """

    def __init__(self, worker: Worker, log: SourceLog) -> None:
        self.worker, self.log = worker, log

    def sweep(self) -> None:
        """Delete what may go, and say whether a remote snapshot could still be brought up to date
        from this log.
        """
        topology = self.worker.topology
        always = min(self.word("applied"), self.word("snapshot_new"), self.done())
        needed = min(always, self.word("snapshot"))
        if topology.s3 is not None:
            needed = min(needed, self.word("remote") if self.spoken_of() else 0)
        older = self.worker.clock.wall_ns() - round(topology.log_retention_s * SECOND_NS)
        deleted = self.log.delete_below(needed, older)
        forced = self.log.delete_below(always, TIME_END_NS, topology.log_bytes_max)
        if deleted or forced:
            self.worker.event("segments_deleted", segments=deleted + forced, first=self.log.first)
        if topology.s3 is not None:
            self.tell_horizon(forced=bool(forced))

    def tell_horizon(self, *, forced: bool) -> None:
        """``horizon_lost`` is the first position that is left, while the newest remote snapshot
        ends before it; 0 while it does not.

        Before the store was seen, or while the words speak of another log, nothing is known: then
        only a deletion of now tells.
        """
        worker, known = self.worker, self.spoken_of()
        reached = self.word("remote_new") if known else 0
        lost = self.log.first > reached + 1
        if lost and not (forced or (known and worker.board.get("remote_seq"))):
            return
        word, was = f"{worker.name}.horizon_lost", self.word("horizon_lost")
        worker.board.set(word, self.log.first if lost else 0)
        if lost and not was:
            worker.event("remote_horizon_lost", first=self.log.first, remote=reached)
        elif was and not lost:
            worker.event("remote_horizon_back", first=self.log.first, remote=reached)

    def spoken_of(self) -> bool:
        """Whether the replicator's words speak of this log; read before them."""
        return self.word("remote_log") == self.log.log_id

    def done(self) -> int:
        return dlq_done(self.worker.board, self.worker.name, self.log.log_id)

    def word(self, name: str) -> int:
        return self.worker.board.get(f"{self.worker.name}.{name}")
