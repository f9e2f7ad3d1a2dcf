"""The remote snapshots as a rung of recovery: waits for a store that is away, within a bound.

What is done with them is ``recovery.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sda_pipeline.clock import Clock
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.runtime.reporting import Report
from sda_pipeline.runtime.retry import Chance, Jitter
from sda_pipeline.state.manifest import Manifest
from sda_pipeline.state.objects import RemoteError
from sda_pipeline.state.remote import Listing, RemoteSnapshots

_T = TypeVar("_T")


class PatientRemote:
    """Tries again what may pass, until ``wait_s`` are over since it was made. ``beat`` is called
    while it waits and at each piece that arrives.
    """

    def __init__(
        self, connect: Callable[[], RemoteSnapshots], wait_s: float, clock: Clock, chance: Chance,
        report: Report, beat: Callable[[], None],
    ) -> None:  # fmt: skip
        self._connect, self._clock, self._report, self._beat = connect, clock, report, beat
        self._jitter = Jitter(chance)
        self._until = clock.monotonic_ns() + round(wait_s * SECOND_NS)
        self._remote: RemoteSnapshots | None = None

    def listing(self) -> Listing:
        """What is there. A manifest that alone is not served is told so in its place."""
        try:
            return self._patiently(lambda remote: remote.listing())
        except RemoteError:
            return self._patiently(lambda remote: remote.listing(lenient=True))

    def fetch(self, manifest: Manifest, target: Path) -> None:
        """A snapshot's data into a file, from its beginning at each attempt."""
        self._patiently(lambda remote: remote.fetch(manifest, target, self._beat))

    def _patiently(self, call: Callable[[RemoteSnapshots], _T]) -> _T:
        while True:
            self._beat()
            try:
                if self._remote is None:
                    self._remote = self._connect()
                return call(self._remote)
            except RemoteError as error:
                left_s = (self._until - self._clock.monotonic_ns()) / SECOND_NS
                if not error.passing or left_s <= 0:
                    raise
                self._report("recovery_waits_for_remote", why=str(error), left_s=round(left_s, 1))
                self._beat()
                self._clock.sleep(min(left_s, self._jitter.next_s()))
