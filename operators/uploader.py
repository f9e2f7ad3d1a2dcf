"""The replicator's second thread: copies finished snapshot files to the remote store.

It reads files only, never the correlator's LMDB, and whatever the store does to it, the first
thread goes on. Not the order of an upload (state/remote.py), nor the board (remote_horizon.py).
"""

from __future__ import annotations

import os
import threading
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sda_pipeline.clock import Clock
from sda_pipeline.errors import SdaError, StateCorrupt
from sda_pipeline.limits import REMOTE_STUCK_S, SECOND_NS
from sda_pipeline.runtime.retry import Breaker, Chance
from sda_pipeline.state.manifest import Manifest
from sda_pipeline.state.objects import RemoteError
from sda_pipeline.state.remote import Listing, RemoteSnapshots, another_writer
from sda_pipeline.vocabulary import BreakerState, RemoteFault


class News(NamedTuple):
    """One thing that happened, for the first thread. ``listing``: what the store now holds."""

    breaker: BreakerState
    listing: Listing | None = None
    uploaded: Manifest | None = None
    ahead: int = 0  # the newest sequence there, when it is above the one that was to be uploaded
    fault: RemoteFault = RemoteFault.NONE
    why: str = ""
    seconds: float = 0.0
    swept: int = 0


class Uploader:
    """One pending snapshot at most: a newer one takes its place. ``wake_fd`` fires with news."""

    def __init__(
        self, connect: Callable[[], RemoteSnapshots], directory: Path, clock: Clock,
        hit: Callable[[str], None], chance: Chance,
    ) -> None:  # fmt: skip
        self._connect, self._directory, self._clock, self._hit = connect, directory, clock, hit
        self.breaker = Breaker(chance)
        self._remote: RemoteSnapshots | None = None
        self._listing: Listing | None = None
        self._changed = threading.Condition()
        self._pending: Manifest | None = None
        self._busy_since = 0  # monotonic ns of the last sign of progress; 0 while it waits
        self._news: deque[News] = deque()
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def start(self) -> None:
        """Begin to work beside the calling thread; ends with the process."""
        threading.Thread(target=self._run, name="uploader", daemon=True).start()

    def offer(self, manifest: Manifest) -> None:
        """This is the newest local snapshot; one that still waits is given up for it."""
        with self._changed:
            self._pending = manifest
            self._changed.notify()

    def news(self) -> list[News]:
        """What has happened since the last call, oldest first. Waiting on ``wake_fd`` resets it."""
        with self._changed:
            found = [*self._news]
            self._news.clear()
        return found

    def check_progress(self, now_ns: int) -> None:
        """SdaError when a call has moved nothing for too long: a restart ends it."""
        since = self._busy_since
        if since and now_ns - since > REMOTE_STUCK_S * SECOND_NS:
            why = f"nothing has moved for {REMOTE_STUCK_S:.0f} s"
            raise SdaError("upload a snapshot", why, "it is tried again after a restart")

    def _run(self) -> None:
        while True:
            wait_s = self.turn()
            with self._changed:
                if wait_s is not None or self._pending is None:
                    self._changed.wait(wait_s)

    def turn(self) -> float | None:
        """Do what is due. How long to wait then, seconds; None: until something is offered."""
        now = self._clock.monotonic_ns()
        if not self.breaker.may_call(now):
            return (self.breaker.due_ns() - now) / SECOND_NS
        manifest = self._pending
        if manifest is None and self._listing is not None:
            return None
        self._moved()
        try:
            if self._listing is None:
                self._listing = self._look()
            if manifest is not None:
                self._bring(manifest, self._listing)
            self.breaker.succeeded()
        except RemoteError as error:
            self.breaker.failed(self._clock.monotonic_ns())
            self._tell(News(self.breaker.state, fault=error.fault, why=str(error)))
        except (
            StateCorrupt,
            OSError,
        ) as error:  # pruned meanwhile, or damaged: the next one serves
            self._done_with(manifest)
            self._tell(News(self.breaker.state, fault=RemoteFault.DAMAGED, why=str(error)))
        except Exception as error:  # noqa: BLE001 - nothing that a store answers may stop the tree
            self.breaker.failed(self._clock.monotonic_ns())
            why = str(error) if isinstance(error, SdaError) else traceback.format_exc()
            self._tell(News(self.breaker.state, fault=RemoteFault.UNEXPECTED, why=why))
        finally:
            self._busy_since = 0
        return 0.0 if self._listing is None or self._pending is not None else None

    def _look(self) -> Listing:
        """First of all: what is there, and what killed uploads have left."""
        if self._remote is None:
            self._remote = self._connect()
        listing = self._remote.listing(self._moved)
        hit = self._hit
        hit("upload_listed")
        swept = self._remote.sweep()
        self._tell(News(BreakerState.CLOSED, listing=listing, swept=swept))
        return listing

    def _bring(self, manifest: Manifest, listing: Listing) -> None:
        """Upload it, unless it is there or something newer is."""
        assert self._remote is not None, "it was looked at first"
        newest = next(iter(listing.good), None)
        ahead = newest.sequence if newest is not None else 0
        started = self._clock.monotonic_ns()
        if newest != manifest:
            try:
                if ahead == manifest.sequence:
                    raise another_writer(str(ahead))
                if ahead < manifest.sequence:
                    upload = self._remote.upload
                    listing = upload(self._directory, manifest, self._hit, self._moved)
                    ahead = 0
            except RemoteError as error:
                if error.fault is RemoteFault.CONFLICT and not error.passing:
                    self._listing = None  # it is not what was thought
                    self._done_with(manifest)
                raise
        else:
            ahead = 0
        self._done_with(manifest)
        self._listing = listing
        seconds = (self._clock.monotonic_ns() - started) / SECOND_NS
        done = None if ahead else manifest
        self._tell(News(BreakerState.CLOSED, listing, done, ahead, seconds=seconds))

    def _done_with(self, manifest: Manifest | None) -> None:
        with self._changed:
            if self._pending is manifest:
                self._pending = None

    def _moved(self) -> None:
        self._busy_since = self._clock.monotonic_ns()

    def _tell(self, news: News) -> None:
        with self._changed:
            self._news.append(news)
            os.eventfd_write(self.wake_fd, 1)
