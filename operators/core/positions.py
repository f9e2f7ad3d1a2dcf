"""Where the correlator stands in each source's log, and what became of every row up to there. Pure.

The offset half of "state + offset": beside the position it keeps the broker offsets, watermarks
and counts of the same frame, so that a snapshot alone can restart a lost source log (DESIGN 7).
"""

from __future__ import annotations

from enum import Enum

import msgspec

from sda_pipeline.records.frames import Counts, Header, Part


class Fate(Enum):
    """What to do with a frame that arrives."""

    APPLY = "apply"
    DROP = "drop"  # already applied: a repeat after a restart
    GAP = "gap"  # something between is missing: rewind, never skip


class SourcePosition(msgspec.Struct, kw_only=True):
    """One source's entry in ``positions``; ``watermark`` is None until its first frame."""

    log_id: int = 0
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

    def fate(self, header: Header, reached: int) -> Fate:
        """Whether a frame is next, known, or beyond a gap, when ``reached`` is the last one taken.

        A frame of another log is next only if that log was made anew exactly here (SPEC 4).
        """
        if header.position <= reached:
            return Fate.DROP
        return Fate.APPLY if header.position == reached + 1 else Fate.GAP

    def classes(self) -> int:
        """Sum of the classes the correlator decides; equals the source's ``rows`` at this
        position.
        """
        return (
            self.applied + self.unpaired + self.duplicate + self.shed + self.quarantined
        ) + self.superseded
