"""What keeps an operator from dying of one record for ever (DESIGN 11): say what is in flight, and
when told that predecessors died of it, find the record. What is done about it is the supervisor's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from sda_pipeline.errors import SdaError
from sda_pipeline.runtime.in_flight import BatchAt, Culprit, InFlight
from sda_pipeline.runtime.probe import Killer, first_killer
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.vocabulary import Step


class Guard:
    """One incarnation's guard.

    In a suspect life the first batch is probed. That is enough: the predecessors made no progress,
    so they died of their first batch, and rings and broker deliver it again, at least all of it.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._in_flight = InFlight(worker.board, worker.name)
        self.suspects = worker.launch.suspect  # the batch in hand must be probed

    def begin(self, at: BatchAt) -> None:
        """Work on a batch begins: from here on a death is charged to it."""
        self._in_flight.batch(at)

    def probe(
        self,
        count: int,
        attempt: Callable[[int], None],
        name: Callable[[int], Culprit],
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        """Try the ``count`` records of a batch one by one, in a child.

        If one kills it, this process says which and ends: SdaError. See ``first_killer``.
        """
        self.suspects = False
        found = self.search(count, attempt, prepare)
        if found is None:
            self._worker.event("nothing_found", records=count)
            return
        self.accuse(name(found.number), found)

    def search(
        self, count: int, attempt: Callable[[int], None],
        prepare: Callable[[], None] = lambda: None, event: str = "probing",
    ) -> Killer | None:  # fmt: skip
        """The first of ``count`` attempts that a child does not survive."""
        worker = self._worker
        worker.event(event, records=count)
        return first_killer(
            count, attempt, worker.clock, prepare=prepare, beat=lambda: worker.beat(Step.COMPUTE),
            within_s=worker.topology.supervision.heartbeat_kill_s,
        )  # fmt: skip

    def accuse(self, culprit: Culprit, found: Killer) -> NoReturn:
        """Tell the supervisor which record is deadly, by ending: SdaError."""
        self._in_flight.culprit(culprit)
        raise SdaError(
            f"process the record at offset {culprit.offset} of partition {culprit.partition}",
            found.why,
            "the supervisor quarantines it",
        )

    def done(self) -> None:
        """The batch is durable and will not be worked on again."""
        self._in_flight.clear()
