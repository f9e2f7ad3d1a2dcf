"""Which observations a source's log holds already, by what the correlator knows them by. Read-only.

An observation is unique by (object, pane, id). Watermarks bound the search: only the records that
can hold rows of the wanted times are read, however long the log is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sda_pipeline.limits import PANE_NS, SECOND_NS
from sda_pipeline.log.log_view import LogView
from sda_pipeline.records.frames import Frame, Part, parse_payload
from sda_pipeline.records.rows import Rows

SLACK_NS = 60 * SECOND_NS  # event_time settings may have been a little smaller when it was logged

I8 = npt.NDArray[np.int64]
Key = tuple[int, int, int, int]  # object, pane, the id's halves


class Wanted(NamedTuple):
    """Observations as columns of n."""

    sat: I8
    t: I8  # ns
    ids: npt.NDArray[np.uint64]  # (n, 2)

    def names(self) -> list[Key]:
        """By what each is known."""
        return _keys(self.sat, self.t, self.ids)


class Lateness(NamedTuple):
    """Of one source, in ns: how far its watermark stays behind, and what is allowed beyond."""

    max_ns: int
    allowed_ns: int


class _Near:
    """Rows that may be among the wanted ones: of their panes, and with the low half of an id. What
    is wanted is sorted once, not with every record: a log has thousands.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._low_halves = np.unique(wanted.ids[:, 1])
        self._from = int(wanted.t.min()) // PANE_NS * PANE_NS
        self._to = (int(wanted.t.max()) // PANE_NS + 1) * PANE_NS

    def of(self, rows: Rows) -> Rows:
        t, low = rows["t"], rows["id"][:, 1]
        timely = (t >= self._from) & (t < self._to)
        if not timely.any():
            return rows[:0]
        at = self._low_halves.searchsorted(low)
        at[at == len(self._low_halves)] = 0
        near: Rows = rows[timely & (self._low_halves[at] == low)]
        return near


def find(view: LogView, wanted: Wanted, lateness: Lateness) -> set[Key]:
    """Those of the wanted observations that are among the log's rows.

    StateCorrupt on damage; Unreachable when a segment is deleted meanwhile: read the log anew.
    """
    if not len(wanted.t) or view.end < view.first:
        return set()
    keys, near = set(wanted.names()), _Near(wanted)
    first = _first_reaching(view, int(wanted.t.min()) - lateness.max_ns - SLACK_NS)
    past = int(wanted.t.max()) + lateness.allowed_ns + SLACK_NS
    found: set[Key] = set()
    for record in view.records(first):
        rows = parse_payload(record.header, record.payload).rows
        rows = near.of(rows)
        if len(rows):
            found |= keys.intersection(_keys(rows["sat"], rows["t"], rows["id"]))
        if record.header.watermark > past:
            break  # every row that follows is of a later time
    return found


def last_frame(view: LogView) -> Frame | None:
    """The newest record taken apart: where every partition stands. None in an empty log."""
    last = view.last()
    return None if last is None else parse_payload(last.header, last.payload)


def _first_reaching(view: LogView, watermark: int) -> int:
    """The first position at which some partition's watermark is at least so high.

    Accepted rows are at most ``max_lateness`` above the watermark they leave behind, so no record
    before it holds a row above ``watermark + max_lateness``. Watermarks only rise: bisection.
    """
    low, high = view.first, view.end
    while low < high:
        middle = (low + high) // 2
        record = view.read(middle)
        if _highest(parse_payload(record.header, record.payload).parts) < watermark:
            low = middle + 1
        else:
            high = middle
    return low


def _highest(parts: tuple[Part, ...]) -> int:
    return max((part.watermark for part in parts), default=0)


def _keys(sat: npt.NDArray[np.integer], t: I8, ids: npt.NDArray[np.uint64]) -> list[Key]:
    columns = sat.tolist(), (t // PANE_NS).tolist(), ids[:, 0].tolist(), ids[:, 1].tolist()
    return list(zip(*columns, strict=True))
