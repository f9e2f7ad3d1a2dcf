"""Rejects that went with a source's log before they reached the DLQ, found again at the broker.

Nothing is lost with them: which offsets the lost log held is known from the correlator's position
or from the new log's first record, up to where all rejects are in the DLQ from its mark, and the
verdict on a record reads no clock (SPEC 1). What is there already is known by ``dlq_id``. Nothing
is logged: a source that dies of this begins again. Not the sending: ``reject_cursor.py``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from operators.core.positions import SourcePosition
from operators.core.spans import Span, ended_since, reaches_of, spans
from operators.digest import Digester
from operators.withheld import original
from sda_pipeline.dlq.marks import NOTHING, Mark
from sda_pipeline.dlq.reading import ENTRIES_PER_BEAT, read_entries, read_marks
from sda_pipeline.log.source_log import SourceLog
from sda_pipeline.records.frames import Counts, parse_payload
from sda_pipeline.records.rejects import Reach, Reject, unpack_rejects

Event = Callable[..., None]
Name = tuple[int, int, int, str]  # partition, generation, offset, kind


class Lost(NamedTuple):
    """What was before a log and is not known to be in the DLQ. ``reaches`` is where that ends."""

    spans: list[Span]
    reaches: tuple[Reach, ...]
    reported: int  # so many quarantined rows were reported
    logged: frozenset[Name]  # those that the log holds itself
    ended: list[Reach]  # generations that ended: what came after is gone
    catalogue: int  # by which they are judged now
    catalogue_changed: bool


def before_log(
    log: SourceLog,
    position: SourcePosition,
    directory: Path,
    source: str,
    *,
    catalogue: int,
    beat: Callable[[], None],
) -> Lost | None:
    """What to tell the dlq-sink of the time before a log; None when its mark says all is known.

    ``position`` is where the correlator stands, ``directory`` the DLQ's.
    """
    mark = read_marks(directory).get(source, NOTHING)
    if mark.log_id == log.log_id and mark.done >= log.first - 1:
        return None
    reaches: tuple[Reach, ...] = ()
    reported, logged = 0, frozenset[Name]()
    if log.first > 1 and log.end < log.first:  # empty: it begins where the correlator stands
        reaches, reported = reaches_of(position.parts), Counts(*position.counts).reported
    elif log.first > 1:
        first = log.read(log.first)
        frame = parse_payload(first.header, first.payload)
        reaches, reported = reaches_of(frame.parts), frame.counts.reported
        logged = frozenset(map(_name, unpack_rejects(first.rejects)))
    lower = mark.reaches or (reaches and _reached_in_files(directory, source, mark, beat))
    changed = bool(mark.catalogue) and mark.catalogue != catalogue
    ended = ended_since(lower, reaches)
    return Lost(spans(lower, reaches), reaches, reported, logged, ended, catalogue, changed)


def _name(reject: Reject) -> Name:
    return reject.partition, reject.generation, reject.offset, reject.kind


def _reached_in_files(
    directory: Path, source: str, mark: Mark, beat: Callable[[], None]
) -> tuple[Reach, ...]:
    """For a mark that does not know: rejects of a partition come in the order of offsets, so every
    one below the greatest of a whole log position is there.
    """
    greatest: dict[int, tuple[int, int]] = {}
    log_id = f"{mark.log_id:016x}"
    for number, entry in enumerate(read_entries(directory)):
        if number % ENTRIES_PER_BEAT == 0:
            beat()
        if entry.operator == source and entry.log_id == log_id and entry.log_position <= mark.done:
            place = entry.generation, entry.offset + 1
            greatest[entry.partition] = max(greatest.get(entry.partition, place), place)
    return tuple(Reach(partition, *place) for partition, place in sorted(greatest.items()))


class LostRejects:
    """Finds them, batch by batch. ``in_doubt``: offsets that could not be read again, at least."""

    def __init__(self, lost: Lost, digester: Digester, event: Event) -> None:
        self.reaches, self.catalogue, self.in_doubt = lost.reaches, lost.catalogue, 0
        self._lookback = digester.lookback()  # not the one for reports: both may wait
        self._digester, self._event = digester, event
        self._logged = lost.logged
        self._spans = deque(lost.spans)
        self._lines = deque(digester.reported(lost.reported))
        for reach in lost.ended:
            self.in_doubt += 1  # at least
            event("rejects_in_doubt", why="the partition began anew", offsets=None,
                  **reach._asdict())  # fmt: skip
        if lost.catalogue_changed:
            for span in lost.spans:
                self._doubt(span, span.end, "catalogue, sensors or physics have changed since")
            self._spans.clear()
        if self._spans:
            event("rejects_sought", offsets=sum(span.end - span.first for span in self._spans))

    def next(self) -> list[Reject] | None:
        """The next of them, none when they have not come yet; None when that was all."""
        if self._spans:
            return self._from_span(self._spans.popleft())
        while self._lines:
            line = self._lines[0]
            reject = original(line, self._lookback)
            if reject is None:
                return []
            self._lines.popleft()
            if _name(reject) not in self._logged:
                return [reject]
        self._lookback.close()
        return None

    def _from_span(self, span: Span) -> list[Reject]:
        piece = self._lookback.read(span)
        if piece.gone:
            self._doubt(span, piece.next, "the broker no longer has these records")
        if piece.next < span.end:
            self._spans.appendleft(span._replace(first=piece.next))
        found = self._digester.refused(piece.batch, span.generation)
        return [reject for reject in found if _name(reject) not in self._logged]

    def _doubt(self, span: Span, end: int, why: str) -> None:
        gone = span._replace(end=end)
        self.in_doubt += gone.end - gone.first
        self._event("rejects_in_doubt", why=why, offsets=gone.end - gone.first, **gone._asdict())
