"""What the replicator tells of the remote store: board words and log events. Calls no store.

The words say up to where, and from where on, the remote snapshots cover each source's log; before
the store was first seen they keep what an earlier life found there.
"""

from __future__ import annotations

import os

from operators.uploader import News, Uploader
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.state.manifest import Manifest
from sda_pipeline.state.remote import Listing, RemoteSnapshots
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
        self.worker, self.uploader = worker, uploader
        self.ahead = 0  # sequences up to here are taken at the remote
        uploader.start()

    def turn(self) -> bool:
        """Take the news. True when a snapshot is wanted at once: what waited cannot be uploaded."""
        self.uploader.check_progress(self.worker.clock.monotonic_ns())
        again = False
        for news in self.uploader.news():
            again |= self._take(news)
        return again

    def _take(self, news: News) -> bool:
        worker, board = self.worker, self.worker.board
        board.set("breaker", int(news.breaker))
        if news.listing is not None:
            self._publish(news.listing)
        if news.swept:
            worker.event("uploads_swept", uploads=news.swept)
        if news.uploaded is not None:
            board.set("uploaded_at", worker.clock.wall_ns())
            board.set("upload_fault", int(RemoteFault.NONE))
            worker.fail("upload_told")
            worker.event("uploaded", sequence=news.uploaded.sequence,
                         size_bytes=news.uploaded.size_bytes,
                         seconds=round(news.seconds, 3))  # fmt: skip
        if news.fault is not RemoteFault.NONE:
            board.set("upload_failed_at", worker.clock.wall_ns())
            board.set("upload_fault", int(news.fault))
            worker.event("upload_failed", fault=news.fault.name, why=news.why,
                         breaker=news.breaker.name)  # fmt: skip
        return bool(news.ahead) and self._is_ahead(news.ahead)

    def _publish(self, listing: Listing) -> None:
        board, kept = self.worker.board, listing.good
        self.ahead = max(self.ahead, listing.highest)
        board.set("remote_epoch", max((m.epoch for m in kept), default=0))
        for source in self.worker.topology.sources:
            newest, oldest = _reach(kept, source)
            board.set(f"{source}.remote", oldest)
            board.set(f"{source}.remote_time", kept[0].watermarks.get(source, 0) if kept else 0)
            board.set(f"{source}.remote_new", newest)
        if kept:
            board.set("remote_at", kept[0].created_ns)
            board.set("remote_seq", kept[0].sequence)

    def _is_ahead(self, sequence: int) -> bool:
        """The remote holds a newer one: of this epoch, number above it; of a later one, wait."""
        epoch = self.worker.board.get("epoch")
        later = sequence >> 32 > epoch
        hint = "the correlator takes a higher epoch at its next start: restart it" if later else ""
        self.worker.event("remote_is_ahead", sequence=sequence, epoch=epoch, hint=hint)
        return not later


def _reach(kept: list[Manifest], source: str) -> tuple[int, int]:
    """Up to where the newest snapshot covers a source's log, and from where the oldest needs it."""
    positions = [manifest.positions.get(source, 0) for manifest in kept]
    return (positions[0], min(positions)) if positions else (0, 0)
