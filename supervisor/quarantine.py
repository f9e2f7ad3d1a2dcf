"""Quarantine at the supervisor: what a dead operator worked on, what is written, who is told.

The rules are in suspicion.py; how quarantined records are counted is told in
``sda_pipeline/dlq/quarantine_file.py``.
"""

from __future__ import annotations

from collections.abc import Callable

from sda_pipeline.clock import Clock
from sda_pipeline.dlq.quarantine_file import NAME, Line, QuarantineFile
from sda_pipeline.runtime.in_flight import BatchAt, Culprit, parse
from sda_pipeline.topology import Topology
from supervisor.events import Event
from supervisor.journal import stamp
from supervisor.members import Note
from supervisor.suspicion import Blame, Suspicions
from supervisor.wiring import Wiring


class Quarantine:
    """Of one run. StateCorrupt or Unreachable when the quarantine file cannot be used."""

    def __init__(
        self, topology: Topology, wiring: Wiring, clock: Clock, tell: Callable[[Note], None]
    ) -> None:
        self._topology, self._wiring, self._clock, self._tell = topology, wiring, clock, tell
        self._suspicions = Suspicions()
        self._file = QuarantineFile(topology.state / NAME)
        if self._file.torn_bytes:
            tell(Note(Event.QUARANTINE_REPAIRED, {"cut_bytes": self._file.torn_bytes}))
        if self._file.why:
            tell(Note(Event.QUARANTINE_REPAIRED, {"why": self._file.why}))
        for source in topology.sources:
            self._publish(source)

    def died(self, name: str, pid: int, *, wanted: bool) -> Blame:
        """Read and clear what an operator was working on when it died; quarantine what it names.

        A death that was ``wanted`` says nothing, but a record it names is deadly all the same.
        SdaError when the record cannot be written down: nothing may go on then.
        """
        words = self._wiring.take_in_flight(name)
        found = parse(words) if words else None
        if found is not None:
            self._tell(Note(Event.IN_FLIGHT, {"operator": name, "pid": pid, **words}))
        if wanted and isinstance(found, BatchAt):
            found = None
        blame = self._suspicions.died(name, found, self._progress(name))
        if isinstance(found, Culprit):
            self._lock_away(name, found, blame.deaths)
        return blame

    def suspects(self, name: str) -> bool:
        """Whether the operator's next life must look for a deadly record."""
        suspect = self._suspicions.suspect(name, self._progress(name))
        if suspect:
            self._tell(Note(Event.SUSPECT, {"operator": name}))
        return suspect

    def _progress(self, name: str) -> int:
        return self._wiring.progress(name)

    def _lock_away(self, name: str, culprit: Culprit, deaths: int) -> None:
        source = self._topology.sources[culprit.source]
        became_row = name != source
        line = Line(
            at=stamp(self._clock.wall_ns()),
            operator=name,
            deaths=deaths,
            source=source,
            generation=culprit.generation,
            partition=culprit.partition,
            offset=culprit.offset,
            report=self._next_report(source) if became_row else 0,
        )
        self._file.append(line)
        self._publish(source)
        fields = {"operator": name, "deaths": deaths, **culprit._asdict(), "source": source}
        self._tell(Note(Event.QUARANTINED, fields))

    def _next_report(self, source: str) -> int:
        """Numbers go on even if the file was moved away."""
        reported = self._wiring.board.get(f"{source}.reported")
        return 1 + max(self._last_report(source), reported)

    def _last_report(self, source: str) -> int:
        return max((line.report for line in self._file.lines if line.source == source), default=0)

    def _publish(self, source: str) -> None:
        self._wiring.board.set(f"{source}.quarantined", self._last_report(source))
