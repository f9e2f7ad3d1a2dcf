"""What the replicator tells of the remote store: board words and log events. Calls no store.

The words say up to where, and from where on, the remote snapshots cover each source's log; before
the store was first seen they keep what an earlier life found there.
"""

from __future__ import annotations

import os

from operators.uploader import News, Uploader
from sda_pipeline.records.alert import EPOCH_SHIFT
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.state.lineage import covering
from sda_pipeline.state.manifest import Manifest
from sda_pipeline.state.remote import Listing, RemoteSnapshots, highest_by_epoch, sequence_of
from sda_pipeline.topology import Topology
from sda_pipeline.vocabulary import RemoteFault


def connect(topology: Topology) -> RemoteSnapshots:
    """The remote snapshots of a topology that has an S3 section. RemoteError when it is unusable.

    boto3 is imported here: only who talks to S3 pays for it.
    """
    from sda_pipeline.state.replica import S3Objects

    settings = topology.s3
    assert settings is not None, "the topology has an S3 section"
    return RemoteSnapshots(S3Objects(settings), settings.prefix, topology.pipeline, settings.keep)


def chance() -> float:
    """Uniform in [0, 1): for the jitter between attempts, never for anything that is stored."""
    return int.from_bytes(os.urandom(6), "little") / 2.0**48


class RemoteHorizon:
    """The first thread's side of the uploader."""

    def __init__(self, worker: Worker, uploader: Uploader) -> None:
        assert worker.topology.s3 is not None, "the topology has an S3 section"
        self.worker, self.uploader, self._keep = worker, uploader, worker.topology.s3.keep
        self.taken: dict[int, int] = {}  # at the remote: by epoch the highest sequence ever seen
        self.kept: list[Manifest] | None = None  # there, newest first; None: not seen yet
        self.unsure = False  # one of those that are kept was not served: it may need more of a log
        self.told: dict[str, tuple[int, int]] = {}  # of which log the words speak
        self.asked = 0  # the epoch for which a snapshot was wanted
        uploader.start()

    def turn(self) -> bool:
        """Take the news. True when a snapshot is wanted at the next cadence, changed or not: what
        waited cannot be uploaded, or what is there is of an epoch that is over.
        """
        self.uploader.check_progress(self.worker.clock.monotonic_ns())
        again = False
        for news in self.uploader.news():
            again |= self._take(news)
        for source in self.worker.topology.sources:
            if self._log_of(source) != self.told.get(source):
                self._publish_source(source)
        return self._outlived() or again

    def _take(self, news: News) -> bool:
        worker, board = self.worker, self.worker.board
        board.set("breaker", int(news.breaker))
        if news.listing is not None:
            self._publish(news.listing)
        if news.swept:
            worker.event("uploads_swept", uploads=news.swept)
        if news.uploaded is not None:
            board.set("uploaded_at", worker.clock.wall_ns())
            worker.fail("upload_told")
            worker.event("uploaded", sequence=news.uploaded.sequence,
                         size_bytes=news.uploaded.size_bytes,
                         seconds=round(news.seconds, 3))  # fmt: skip
        if news.untidy:
            worker.event("remote_untidy", what=news.untidy, why=news.why)
        if news.untidy == "prune" or news.pruned:
            board.set("prune_failed_at", 0 if news.pruned else worker.clock.wall_ns())
        if news.fault is not RemoteFault.NONE:
            board.set("upload_failed_at", worker.clock.wall_ns())
            board.set("upload_fault", int(news.fault))
            worker.event("upload_failed", fault=news.fault.name, why=news.why,
                         breaker=news.breaker.name)  # fmt: skip
        if news.settled:
            board.set("upload_fault", int(RemoteFault.NONE))
        if news.fault is RemoteFault.CONFLICT or news.settled:
            board.set("remote_rival", news.ahead >> EPOCH_SHIFT if news.fault else 0)
        if news.ahead and not news.fault:
            worker.event("remote_is_ahead", sequence=news.ahead)
            return True
        return news.given_up

    def _publish(self, listing: Listing) -> None:
        board, kept = self.worker.board, listing.good[: self._keep]
        self.taken = highest_by_epoch([*self.taken.values(), *listing.taken.values()])
        oldest = listing.oldest(self._keep)
        self.unsure = any(sequence_of(each) > oldest for each in listing.unserved)
        self.kept = kept
        board.set("remote_epoch", max((m.epoch for m in kept), default=0))
        for source in self.worker.topology.sources:
            self._publish_source(source)
        board.set("remote_at", kept[0].created_ns if kept else 0)
        board.set("remote_seq", kept[0].sequence if kept else 0)

    def _publish_source(self, source: str) -> None:
        """What the remote snapshots hold of a source's log; nothing is said of another log.

        Before the store was seen this is what an earlier life found, as long as the log is the
        same. Written against the order in which the words are read (ring/board.py), so that nobody
        takes a position for one of another log or of a snapshot of another epoch.
        """
        board, log = self.worker.board, self._log_of(source)
        log_id, first = log
        if not log_id or (self.kept is None and board.get(f"{source}.remote_log") == log_id):
            return
        found = covering(self.kept or [], source, log_id, first)
        newest = found[0] if found else None
        positions = [manifest.positions.get(source, 0) for manifest in found]
        oldest = min(positions, default=0)
        if self.unsure:  # what was needed before may be needed still
            known = board.get(f"{source}.remote_log") == log_id
            oldest = min(oldest, board.get(f"{source}.remote")) if known else 0
        board.set(f"{source}.remote_time", newest.watermarks.get(source, 0) if newest else 0)
        board.set(f"{source}.remote", oldest)
        board.set(f"{source}.remote_new", positions[0] if positions else 0)
        board.set(f"{source}.remote_by", newest.sequence if newest else 0)
        board.set(f"{source}.remote_log", log_id)
        self.told[source] = log

    def _log_of(self, source: str) -> tuple[int, int]:
        board = self.worker.board
        return board.get(f"{source}.log_id"), board.get(f"{source}.log_first")

    def _outlived(self) -> bool:
        """Whether the newest snapshot there is of an epoch that is over, once an epoch."""
        epoch = self.worker.board.get("epoch")
        if not self.kept or self.kept[0].epoch >= epoch or self.asked >= epoch:
            return False
        self.asked = epoch
        return True
