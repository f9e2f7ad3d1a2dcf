"""A source's frames onto its ring, in order and without a gap. What is in them is the log's."""

from __future__ import annotations

from collections.abc import Callable

from operators.core.batch import Built
from sda_pipeline.log.source_log import SourceLog
from sda_pipeline.runtime.worker import Worker

BLOCKED_WAIT_S = 0.5


class Outlet:
    """The one producer of the ring to normalize. ``meanwhile`` is called while the ring is full.

    Once a frame was left out, because the source is to stop, so is every later one: they are in the
    log, and the next start sends them.
    """

    def __init__(self, worker: Worker, meanwhile: Callable[[], None]) -> None:
        self._worker, self._meanwhile = worker, meanwhile
        self._ring = worker.output_to("normalize")
        self._cut_off = False

    def publish(self, built: Built) -> bool:
        """Put one frame on the ring, waiting for room as long as it takes unless told to stop.

        True when it had to wait.
        """
        head, waited = built.header.pack(), False
        while not self._cut_off:
            if self._ring.try_publish(head, (built.payload,), built.header.payload_crc):
                break
            if self._worker.stopping:
                self._cut_off = True
                break
            waited = True
            self._worker.wait(BLOCKED_WAIT_S, [self._ring.space_fd])
            self._meanwhile()
        return waited

    def republish(self, log: SourceLog, applied: int) -> None:
        """Send again what the correlator has not applied; it drops by position what it has."""
        for record in log.records(max(applied + 1, log.first)):
            if self._worker.stopping:
                self._cut_off = True
                return
            self.publish(Built(record.header.never_shed(), bytes(record.payload)))
