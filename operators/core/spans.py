"""Which broker offsets lie between two standings of a source. Pure; nothing is read here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sda_pipeline.records.frames import Part
from sda_pipeline.records.rejects import Reach


class Span(NamedTuple):
    """Offsets ``first`` to ``end`` - 1 of a partition's generation."""

    partition: int
    generation: int
    first: int
    end: int


def reaches_of(parts: Iterable[Part]) -> tuple[Reach, ...]:
    """The standings without their watermarks."""
    return tuple(Reach(part.partition, part.generation, part.next_offset) for part in parts)


def spans(lower: Iterable[Reach], upper: Iterable[Reach]) -> list[Span]:
    """What was consumed between ``lower`` and ``upper``, in the order of partitions.

    A partition that ``lower`` does not know, or knows in an older generation, from its beginning:
    how far the older one went is not known.
    """
    known = {reach.partition: reach for reach in lower}
    found = []
    for reach in sorted(upper):
        before = known.get(reach.partition)
        newer = before is not None and before.generation > reach.generation
        same = before is not None and before.generation == reach.generation
        first = before.next_offset if before is not None and same else 0
        if not newer and first < reach.next_offset:
            found.append(Span(reach.partition, reach.generation, first, reach.next_offset))
    return found


def ended_since(lower: Iterable[Reach], upper: Iterable[Reach]) -> list[Reach]:
    """Standings of ``lower`` whose generation has ended: what came after them there is gone."""
    present = {reach.partition: reach.generation for reach in upper}
    return [r for r in lower if present.get(r.partition, r.generation) > r.generation]
