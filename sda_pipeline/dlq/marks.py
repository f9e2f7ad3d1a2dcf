"""High-water marks: up to where the DLQ files hold a source's rejects. Pure; no files.

Rejects of one log position arrive in chunks, in order; a position is done when its last chunk is
written. Each head says which position came before, so that a missing one is seen.
"""

from __future__ import annotations

import msgspec

from sda_pipeline.errors import Rewind
from sda_pipeline.records.rejects import KIND_BEFORE, KIND_PROGRESS, Reach, RejectHead, Sent

NO_INDEX = -1


class Mark(msgspec.Struct, frozen=True):
    """One source's mark. ``index`` is the last one written of ``position``, NO_INDEX for none.

    ``entries`` counts the lines ever written for the source, ``expired`` those of them that the
    retention deleted; ``replaced`` says that its log took the place of another, whose rejects may
    come again under new positions: those are known by ``dlq_id``. ``again``: damage was found below
    this position of the log, so lines up to it may come a second time. ``reaches``: broker offsets
    below which every reject is in the files, at least; empty when that is not known. ``catalogue``
    is the hash of those that judged them. ``in_doubt`` counts offsets whose rejects may be missing:
    they went with a log, and the broker could not be asked again.
    """

    log_id: int = 0
    position: int = 0
    index: int = NO_INDEX
    complete: bool = True
    entries: int = 0
    replaced: bool = False
    expired: int = 0
    again: int = 0
    reaches: tuple[Reach, ...] = ()
    catalogue: int = 0
    in_doubt: int = 0

    @property
    def done(self) -> int:
        """The last position of which every reject is in the files."""
        return self.position if self.complete else self.position - 1

    def knows(self, before: Mark, sent: Sent) -> Mark:
        """This mark, which ``take`` gave for a head, with what came with it."""
        if self is before or not self.complete:
            return self
        return msgspec.structs.replace(
            self,
            reaches=sent.reaches or self.reaches,
            catalogue=sent.catalogue or self.catalogue,
            in_doubt=self.in_doubt + sent.in_doubt,
        )


NOTHING = Mark()


def take(mark: Mark, head: RejectHead) -> tuple[int, Mark]:
    """How many rejects of a chunk, from its front, are written already; the mark when the rest is
    too.

    A progress head means: all up to its position was sent. Rewind when something is missing in
    between. The caller adds to ``entries`` what it writes.
    """
    if head.kind == KIND_BEFORE:
        return _take_before(mark, head)
    if head.log_id != mark.log_id:
        raise _gap(head, f"nothing said how log {head.log_id:016x} begins")
    if head.position < mark.position or (head.position == mark.position and mark.complete):
        return head.count, mark
    if not mark.complete and (head.position > mark.position or head.kind == KIND_PROGRESS):
        raise _gap(head, f"position {mark.position} lacks the rejects after {mark.index}")
    if head.after > mark.done:
        raise _gap(head, f"it follows position {head.after}, the last one taken is {mark.done}")
    if head.kind == KIND_PROGRESS:
        return 0, msgspec.structs.replace(mark, position=head.position, index=NO_INDEX)
    expected = mark.index + 1 if head.position == mark.position else 0
    if head.first > expected:
        raise _gap(head, f"its chunk starts at {head.first}, not at {expected}")
    reached = max(head.first + head.count, expected) - 1
    new = msgspec.structs.replace(
        mark, position=head.position, index=reached, complete=bool(head.last)
    )
    return min(head.count, expected - head.first), new


def _take_before(mark: Mark, head: RejectHead) -> tuple[int, Mark]:
    """As ``take``, for what was before a log.

    A source that starts again finds it anew, perhaps less of it: the index says only that no chunk
    is missing, and what is written already is known by ``dlq_id``.
    """
    same = head.log_id == mark.log_id
    if same and head.position <= mark.done:
        return head.count, mark
    expected = mark.index + 1 if same and head.position == mark.position else 0
    if head.first > expected:
        raise _gap(head, f"what was before its log goes on at {head.first}, not at {expected}")
    new = msgspec.structs.replace(
        mark,
        log_id=head.log_id,
        position=head.position,
        index=NO_INDEX if head.last else head.first + head.count - 1,
        complete=bool(head.last),
        replaced=mark.replaced or (not same and mark.log_id != 0),
    )
    return 0, new


def written(mark: Mark, log_id: int, position: int, index: int) -> Mark:
    """The mark after a line found in the files; what came with it is not known to be complete."""
    return msgspec.structs.replace(
        mark,
        log_id=log_id,
        position=position,
        index=index,
        complete=False,
        entries=mark.entries + 1,
        replaced=mark.replaced or mark.log_id not in {0, log_id},
    )


def _gap(head: RejectHead, why: str) -> Rewind:
    return Rewind(
        f"take rejects of log position {head.position}", why, "the source sends them again"
    )
