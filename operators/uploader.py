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
from sda_pipeline.limits import REMOTE_LOOK_S, REMOTE_STUCK_S, SECOND_NS
from sda_pipeline.records.alert import EPOCH_SHIFT
from sda_pipeline.runtime.retry import Breaker, Chance
from sda_pipeline.state.lineage import Standing, rivalry, standing
from sda_pipeline.state.manifest import Manifest
from sda_pipeline.state.objects import RemoteError
from sda_pipeline.state.remote import Listing, RemoteSnapshots, sequence_of
from sda_pipeline.state.snapshot import manifests
from sda_pipeline.vocabulary import BreakerState, RemoteFault


class News(NamedTuple):
    """One thing that happened, for the first thread. ``listing``: what the store now holds."""

    breaker: BreakerState
    listing: Listing | None = None
    uploaded: Manifest | None = None
    ahead: int = 0  # the newest sequence there, when ours is not above it
    fault: RemoteFault = RemoteFault.NONE
    why: str = ""
    seconds: float = 0.0
    swept: int = 0
    untidy: str = ""  # what beside the upload could not be done: "sweep", "prune", "probe"
    pruned: bool = False  # what was too old could be deleted
    settled: bool = False  # nothing is left to do: what failed before is over
    given_up: bool = False  # what waited cannot be uploaded, and another snapshot could be


class Uploader:
    """One pending snapshot at most: a newer one takes its place. ``wake_fd`` fires with news."""

    def __init__(
        self, connect: Callable[[], RemoteSnapshots], directory: Path, clock: Clock,
        hit: Callable[[str], None], chance: Chance,
    ) -> None:  # fmt: skip
        self._connect, self._directory, self._clock, self._hit = connect, directory, clock, hit
        self.breaker = Breaker(chance)
        self._remote: RemoteSnapshots | None = None
        self._seen = False  # the store has been looked at, and nothing was found otherwise since
        self._begun = manifests(directory)  # what a killed life, or a failure, may have left there
        self._sweep_due = True
        self._untidy: set[str] = set()  # what was told already
        self._probed = False
        self._last: Manifest | None = None  # that was uploaded
        self._given_up = False  # what was offered last is not there, and no longer waits
        self._changed = threading.Condition()
        self._pending: Manifest | None = None
        self._offered: Manifest | None = None  # last
        self._missed = False  # it is brought again where it is not there
        self._busy_since = 0  # monotonic ns of the last sign of progress; 0 while it waits
        self._news: deque[News] = deque()
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def start(self) -> None:
        """Begin to work beside the calling thread; ends with the process."""
        threading.Thread(target=self._run, name="uploader", daemon=True).start()

    def offer(self, manifest: Manifest) -> None:
        """This is the newest local snapshot; one that still waits is given up for it."""
        with self._changed:
            self._pending = self._offered = manifest
            self._given_up = False
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
                if wait_s is not None:
                    self._changed.wait(wait_s)
                elif self._pending is None and not self._changed.wait(REMOTE_LOOK_S):
                    self.look_again()

    def look_again(self) -> None:
        """At the next turn, and bring what was offered last if it is not there: a rule of the
        bucket, or somebody, may have deleted it.
        """
        self._seen, self._missed = False, True

    def turn(self) -> float | None:
        """Do what is due. How long to wait then, seconds; None: until something is offered."""
        now = self._clock.monotonic_ns()
        if not self.breaker.may_call(now):
            return (self.breaker.due_ns() - now) / SECOND_NS
        manifest = self._pending
        if manifest is None and self._seen:
            return None
        self._moved()
        try:
            remote = self._remote = self._remote or self._connect()
            offered = self._offered
            listing = self._look(remote, offered.epoch if offered is not None else 0)
            if self._missed and offered is not None and offered not in listing.good:
                manifest = self._wanted(offered)
            self._missed = False
            if manifest is not None:  # a newer one may have come while a slow store was listed
                manifest = self._pending or manifest
            news = self._bring(remote, manifest, listing) if manifest is not None else None
            self.breaker.succeeded()
            self._tell(news or News(self.breaker.state, settled=not self._given_up))
        except RemoteError as error:
            if error.fault is RemoteFault.DENIED:
                self._remote = None  # credentials may be others by now: they are read anew
            self._failed(error.fault, str(error))
        except Exception as error:  # noqa: BLE001 - nothing that a store answers may stop the tree
            why = str(error) if isinstance(error, SdaError) else traceback.format_exc()
            self._failed(RemoteFault.UNEXPECTED, why)
        finally:
            self._busy_since = 0
        return 0.0 if not self._seen or self._pending is not None else None

    def _wanted(self, offered: Manifest) -> Manifest:
        """What waits, be it what was brought before."""
        with self._changed:
            self._pending = self._pending or offered
            return self._pending

    def _failed(self, fault: RemoteFault, why: str) -> None:
        self.breaker.failed(self._clock.monotonic_ns())
        self._tell(News(self.breaker.state, fault=fault, why=why))

    def _look(self, remote: RemoteSnapshots, epoch: int) -> Listing:
        """First of all: what is there. One manifest that is not served does not hide the others,
        unless it may be the newest one of ``epoch`` or later: then nobody knows whose that is. And
        who may read none could restore none.
        """
        listing = remote.listing(self._moved, lenient=True)
        newest = max((each.sequence for each in listing.good), default=0)
        for each in listing.unserved:
            hidden = max(newest, (epoch << EPOCH_SHIFT) - 1) < sequence_of(each)
            if hidden or (not newest and each.error.fault is RemoteFault.DENIED):
                raise each.error
        hit = self._hit
        hit("upload_listed")
        self._seen = True
        self._tell(News(self.breaker.state, listing=listing))
        return listing

    def _bring(self, remote: RemoteSnapshots, manifest: Manifest, listing: Listing) -> News:
        """Upload it, unless what is there forbids it. RemoteError when that failed: try again."""
        newest = next(iter(listing.good), None)
        last = [self._last] if self._last is not None else []
        found = standing(manifest, newest, [*last, *manifests(self._directory)])
        if newest is None or found is Standing.FREE:
            return self._upload(remote, manifest, listing)
        self._done_with(manifest, given_up=found is Standing.RIVAL)
        state = BreakerState.CLOSED
        if found is Standing.RIVAL:
            why = rivalry(newest, manifest.epoch)
            return News(state, ahead=newest.sequence, fault=RemoteFault.CONFLICT, why=why)
        ahead = newest.sequence if found is Standing.AHEAD else 0
        return News(state, ahead=ahead, settled=True)

    def _upload(self, remote: RemoteSnapshots, manifest: Manifest, listing: Listing) -> News:
        """Sweep, upload, tell, prune: only the upload itself can fail. What it can never succeed
        with is given up, and is no fault of the store.
        """
        if self._sweep_due:
            self._tidy("sweep", lambda: self._sweep(remote))
        started = self._clock.monotonic_ns()
        try:
            remote.upload(self._directory, manifest, self._hit, self._moved)
        except (StateCorrupt, OSError) as error:  # pruned meanwhile, or damaged: the next serves
            return self._give_up(manifest, RemoteFault.DAMAGED, error)
        except RemoteError as error:
            self._sweep_due, self._begun = True, [manifest, *self._begun]
            if error.fault is not RemoteFault.CONFLICT or error.passing:
                raise
            self._seen = False  # what is there is not what was thought
            return self._give_up(manifest, error.fault, error)
        self._last, listing = manifest, listing.plus(manifest)
        self._done_with(manifest)
        seconds = (self._clock.monotonic_ns() - started) / SECOND_NS
        self._tell(News(BreakerState.CLOSED, listing, manifest, seconds=seconds))
        self._tidy("prune", lambda: self._prune(remote, listing))
        if not self._probed:
            self._tidy("probe", lambda: self._probe(remote))
        return News(BreakerState.CLOSED, settled=True)

    def _give_up(self, manifest: Manifest, fault: RemoteFault, error: Exception) -> News:
        self._done_with(manifest, given_up=True)
        state = BreakerState.CLOSED
        return News(state, fault=fault, why=str(error), given_up=self._given_up)

    def _tidy(self, what: str, do: Callable[[], None]) -> None:
        """What the upload does not depend on. That it fails is told once, until it works again."""
        try:
            do()
            self._untidy.discard(what)
        except RemoteError as error:
            if what not in self._untidy:
                self._untidy.add(what)
                self._tell(News(self.breaker.state, untidy=what, why=str(error)))

    def _sweep(self, remote: RemoteSnapshots) -> None:
        """What killed and failed uploads have left; due again when it could not be done."""
        swept = remote.sweep(self._begun)
        self._sweep_due, self._begun = False, []
        self._tell(News(self.breaker.state, swept=swept))

    def _prune(self, remote: RemoteSnapshots, listing: Listing) -> None:
        left = remote.prune(listing, self._hit, self._moved)
        self._tell(News(BreakerState.CLOSED, listing=left, pruned=True))

    def _probe(self, remote: RemoteSnapshots) -> None:
        conditional, self._probed = remote.is_conditional(), True
        if not conditional:
            why = 'the store does not mind "only if absent"; give this prefix one writer only'
            self._tell(News(BreakerState.CLOSED, untidy="probe", why=why))

    def _done_with(self, manifest: Manifest, *, given_up: bool = False) -> None:
        with self._changed:
            if self._pending is manifest:
                self._pending, self._given_up = None, given_up

    def _moved(self) -> None:
        self._busy_since = self._clock.monotonic_ns()

    def _tell(self, news: News) -> None:
        with self._changed:
            self._news.append(news)
            os.eventfd_write(self.wake_fd, 1)
