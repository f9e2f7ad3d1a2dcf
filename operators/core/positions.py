"""Where the correlator stands in each source's log, and what became of every row up to there. Pure.

The offset half of "state + offset": beside the position it keeps the broker offsets, watermarks
and counts of the same frame, so that a snapshot alone can restart a lost source log (DESIGN 7).
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import msgspec

from sda_pipeline.records.frames import Counts, Header, Part


class Fate(Enum):
    """What to do with a frame that arrives."""

    APPLY = "apply"
    DROP = "drop"  # already applied: a repeat after a restart
    GAP = "gap"  # something between is missing: rewind, never skip


class Reached(NamedTuple):
    """The last frame taken of a source. ``log_first`` is where its log was taken up."""

    log_id: int = 0
    log_first: int = 0
    position: int = 0

    def fate(self, header: Header) -> Fate:
        """Whether a frame is next, known, or beyond a gap.

        A frame of another log is next only if that log was made anew exactly here, and a repeat
        only if it stands before the log that replaced its own (SPEC 4).
        """
        if header.position == self.position + 1:
            return Fate.APPLY
        newest_known = self.position if header.log_id == self.log_id else self.log_first - 1
        return Fate.DROP if header.position <= newest_known else Fate.GAP

    def after(self, header: Header) -> Reached:
        """Where the next frame stands."""
        first = self.log_first if header.log_id == self.log_id else header.position
        return Reached(header.log_id, first, header.position)


class SourcePosition(msgspec.Struct, kw_only=True):
    """One source's entry in ``positions``; ``watermark`` is None until its first frame."""

    log_id: int = 0
    log_first: int = 0  # first position taken of that log
    position: int = 0
    watermark: int | None = None
    ended: bool = False
    parts: tuple[Part, ...] = ()
    counts: tuple[int, ...] = Counts().as_tuple()  # the source's own, at ``position``
    applied: int = 0
    unpaired: int = 0
    duplicate: int = 0
    shed: int = 0
    quarantined: int = 0
    superseded: int = 0
    missing: int = 0  # below a log's first position when all that had applied them was lost
    catalogues: tuple[int, ...] | None = None  # of all frames, the newest last; None: not kept

    @property
    def reached(self) -> Reached:
        return Reached(self.log_id, self.log_first, self.position)

    def move_to(self, header: Header) -> None:
        """Take a frame that is next."""
        self.log_id, self.log_first, self.position = self.reached.after(header)
        known = self.catalogues
        if known is not None and known[-1:] != (header.catalogue,):
            others = (each for each in known if each != header.catalogue)
            self.catalogues = (*others, header.catalogue)

    def fits(self, log_id: int, first: int, end: int) -> bool:
        """Whether the log ``log_id``, holding positions ``first`` to ``end``, goes on from here.

        Another log than the one last applied does so only if it begins exactly here (SPEC 4).
        """
        following = self.position + 1
        if log_id != self.log_id:
            return first == following
        return first <= following <= end + 1

    def classes(self) -> int:
        """Sum of the classes the correlator decides; equals the source's ``rows`` at this
        position.
        """
        return sum(
            (
                self.applied, self.unpaired, self.duplicate, self.shed, self.quarantined,
                self.superseded, self.missing,
            )
        )  # fmt: skip
