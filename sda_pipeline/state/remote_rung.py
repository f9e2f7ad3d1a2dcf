"""The remote snapshots as a rung of recovery: waits for a store that is away, within a bound.

What is done with them is ``recovery.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sda_pipeline.clock import Clock
from sda_pipeline.errors import SdaError, disk_fault
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.runtime.reporting import Report
from sda_pipeline.runtime.retry import Chance, Jitter
from sda_pipeline.state.manifest import Manifest, Unreadable
from sda_pipeline.state.objects import Moved, RemoteError
from sda_pipeline.state.remote import Listing, RemoteSnapshots, Unread
from sda_pipeline.vocabulary import RemoteFault

_T = TypeVar("_T")
_ACTION = "use the remote store"
_LOOK_AGAIN = {RemoteFault.DENIED, RemoteFault.UNEXPECTED}  # a client keeps what it found at first


class PatientRemote:
    """Tries again what may pass, until nothing has come of it for ``wait_s``. ``beat`` is called
    while it waits and at each piece that arrives.

    The bound begins with the first call, and anew when a call succeeds or gets further than it ever
    did. A call that fails once the bound is over is not tried again.
    """

    def __init__(
        self, connect: Callable[[], RemoteSnapshots], wait_s: float, clock: Clock, chance: Chance,
        report: Report, beat: Callable[[], None],
    ) -> None:  # fmt: skip
        self._connect, self._clock, self._report, self._beat = connect, clock, report, beat
        self._jitter = Jitter(chance)
        self._wait_ns = round(wait_s * SECOND_NS)
        self._until: int | None = None
        self._remote: RemoteSnapshots | None = None

    def listing(self) -> Listing:
        """What is there. A manifest that alone is not served is told so in its place."""
        try:
            return self._patiently(lambda remote, moved: remote.listing(moved))
        except RemoteError:
            return self._patiently(
                lambda remote, moved: remote.listing(moved, lenient=True), sys.maxsize
            )

    def read(self, unread: Unread) -> Manifest | Unreadable:
        """A manifest that the listing passed over."""
        return self._patiently(lambda remote, _: remote.read(unread))

    def fetch(self, manifest: Manifest, target: Path) -> None:
        """A snapshot's data into a file, from its beginning at each attempt."""
        self._patiently(lambda remote, moved: remote.fetch(manifest, target, moved))

    def _patiently(self, call: Callable[[RemoteSnapshots, Moved], _T], furthest: int = 0) -> _T:
        """Call it until it succeeds. ``furthest``: how many pieces it has got before."""
        pieces = 0

        def moved() -> None:
            nonlocal pieces, furthest
            self._beat()
            pieces += 1
            if pieces > furthest:
                furthest = pieces
                self._begin_wait()

        if self._until is None:
            self._begin_wait()
        while True:
            self._beat()
            pieces = 0
            try:
                if self._remote is None:
                    self._remote = self._connect()
                found = call(self._remote, moved)
            except Exception as error:
                told = _as_remote(error)
                if told is None:
                    raise
                if told.fault in _LOOK_AGAIN:
                    self._remote = None
                self._wait(told)
            else:
                self._begin_wait()
                return found

    def _begin_wait(self) -> None:
        self._until = self._clock.monotonic_ns() + self._wait_ns
        self._jitter.reset()

    def _wait(self, error: RemoteError) -> None:
        """A moment, in which it may pass; raises the error when it cannot, or the bound is over."""
        assert self._until is not None, "the bound has begun"
        left_s = (self._until - self._clock.monotonic_ns()) / SECOND_NS
        if not error.passing or left_s <= 0:
            raise error
        self._report("recovery_waits_for_remote", why=str(error), left_s=round(left_s, 1))
        self._beat()
        self._clock.sleep(min(left_s, self._jitter.next_s()))


def _as_remote(error: Exception) -> RemoteError | None:
    """What the store, or the way to it, did; None for what a wait cannot mend.

    That is what a recovery decides on (damage, a newer format) and a disk of ours that fails. The
    rest is an unforeseen fault on the way to the store: none of these may end a recovery early.
    """
    if isinstance(error, RemoteError):
        return error
    if isinstance(error, SdaError):
        return None
    if isinstance(error, OSError) and disk_fault(_ACTION, error) is not None:
        return None
    told = RemoteError(_ACTION, f"{type(error).__name__}: {error}", RemoteFault.UNEXPECTED)
    told.__cause__ = error
    return told
