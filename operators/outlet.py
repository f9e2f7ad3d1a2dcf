"""A source's frames onto its ring, in order and without a gap. What is in them is the log's."""

from __future__ import annotations

from collections.abc import Callable

from operators.core.batch import Built
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.log.source_log import SourceLog
from sda_pipeline.runtime.worker import Worker

BLOCKED_WAIT_S = 0.5
# Nothing is on its way and the correlator lacks frames: a slot was lost, and with no later frame of
# this source nobody sees the gap. Sent again after so long, then ever more patiently.
RESEND_S = (10.0, 120.0)


class Outlet:
    """The one producer of the ring to normalize. ``meanwhile`` is called while the ring is full.

    Once a frame was left out, because the source is to stop, so is every later one: they are in the
    log, and the next start sends them.
    """

    def __init__(self, worker: Worker, meanwhile: Callable[[], None]) -> None:
        self._worker, self._meanwhile = worker, meanwhile
        self._ring = worker.output_to("normalize")
        self._cut_off = False
        self._stuck: tuple[int, int] | None = None  # applied, end of the log
        self._stuck_since, self._patience_s = 0, RESEND_S[0]

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

    def resend(self, log: SourceLog, applied: int, now_ns: int) -> bool:
        """Republish what is neither applied nor on the ring, when that has lasted; True if so."""
        stuck = (applied, log.end)
        if applied >= log.end or self._ring.occupied() or stuck != self._stuck:
            self._stuck, self._stuck_since, self._patience_s = stuck, now_ns, RESEND_S[0]
            return False
        if now_ns - self._stuck_since < self._patience_s * SECOND_NS:
            return False
        self._stuck_since, self._patience_s = now_ns, min(2 * self._patience_s, RESEND_S[1])
        self.republish(log, applied)
        return True

    def republish(self, log: SourceLog, applied: int) -> None:
        """Send again what the correlator has not applied; it drops by position what it has."""
        for record in log.records(max(applied + 1, log.first)):
            if self._worker.stopping:
                self._cut_off = True
                return
            self.publish(Built(record.header.never_shed(), bytes(record.payload)))
