"""High-water marks: up to where the DLQ files hold a source's rejects. Pure; no files.

Rejects of one log position arrive in chunks, in order; a position is done when its last chunk is
written.
"""

from __future__ import annotations

import msgspec

from sda_pipeline.errors import Rewind
from sda_pipeline.records.rejects import KIND_PROGRESS, RejectHead

NO_INDEX = -1


class Mark(msgspec.Struct, frozen=True):
    """One source's mark. ``index`` is the last one written of ``position``, NO_INDEX for none.

    ``entries`` counts the lines ever written for the source, ``expired`` those of them that the
    retention deleted; ``replaced`` says that its log took the place of another, whose rejects may
    come again under new positions: those are known by ``dlq_id``. ``again``: damage was found below
    this position of the log, so lines up to it may come a second time.
    """

    log_id: int = 0
    position: int = 0
    index: int = NO_INDEX
    complete: bool = True
    entries: int = 0
    replaced: bool = False
    expired: int = 0
    again: int = 0

    @property
    def done(self) -> int:
        """The last position of which every reject is in the files."""
        return self.position if self.complete else self.position - 1


NOTHING = Mark()


def take(mark: Mark, head: RejectHead) -> tuple[int, Mark]:
    """How many rejects of a chunk, from its front, are written already; the mark when the rest is
    too.

    A progress head means: all up to its position was sent. Rewind when a chunk is missing in
    between. The caller adds to ``entries`` what it writes.
    """
    if head.log_id != mark.log_id:
        fresh = Mark(
            log_id=head.log_id,
            position=head.position - 1,
            entries=mark.entries,
            replaced=mark.log_id != 0,
            expired=mark.expired,
        )
        return take(fresh, head)
    if head.position < mark.position or (head.position == mark.position and mark.complete):
        return head.count, mark
    if head.position > mark.position and not mark.complete:
        raise _gap(head, f"position {mark.position} lacks the rejects after {mark.index}")
    if head.kind == KIND_PROGRESS:
        if not mark.complete:
            raise _gap(head, f"position {mark.position} lacks the rejects after {mark.index}")
        return 0, msgspec.structs.replace(mark, position=head.position, index=NO_INDEX)
    expected = mark.index + 1 if head.position == mark.position else 0
    if head.first > expected:
        raise _gap(head, f"its chunk starts at {head.first}, not at {expected}")
    reached = max(head.first + head.count, expected) - 1
    new = msgspec.structs.replace(
        mark, position=head.position, index=reached, complete=bool(head.last)
    )
    return min(head.count, expected - head.first), new


def written(mark: Mark, log_id: int, position: int, index: int) -> Mark:
    """The mark after a line found in the files; what came with it is not known to be complete."""
    replaced = mark.replaced or mark.log_id not in {0, log_id}
    entries, again = mark.entries + 1, mark.again
    return Mark(log_id, position, index, False, entries, replaced, mark.expired, again)  # noqa: FBT003


def _gap(head: RejectHead, why: str) -> Rewind:
    return Rewind(
        f"take rejects of log position {head.position}", why, "the source sends them again"
    )
