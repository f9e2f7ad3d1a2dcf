"""What an operator is working on, in three board words that outlive it (DESIGN 11). No decisions.

=======================  ================================  =================  ====================
state                    ``in_flight_source``              ``_position``      ``_row``
=======================  ================================  =================  ====================
nothing                  0                                 any                any
a batch, of a source     generation << 32 | partition + 1  its first offset   0
a batch, elsewhere       index of the source + 1           its first frame's  0
an evaluation of rows    2^64 - 1                          0                  0
applied before
one record, found to be  generation << 32 | partition + 1  its offset         index of its source
deadly                                                                        + 1
=======================  ================================  =================  ====================

``in_flight_source`` is cleared first and written last, so whoever reads the words of a process
killed at any moment finds one of these states, whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sda_pipeline.ring.board import Board

SOURCE, POSITION, ROW = "in_flight_source", "in_flight_position", "in_flight_row"
_PARTITION_BITS = 32
_PARTITION_MASK = (1 << _PARTITION_BITS) - 1


class BatchAt(NamedTuple):
    """Where a batch begins; equal for two lives that worked on the same one. Not to be decoded."""

    source: int
    position: int


class Culprit(NamedTuple):
    """One record by its broker coordinates. ``source``: index of its source in the topology."""

    source: int
    generation: int
    partition: int
    offset: int


EVALUATION = BatchAt((1 << 64) - 1, 0)


def partition_word(generation: int, partition: int) -> int:
    """Generation and partition in one word that is never 0."""
    return generation << _PARTITION_BITS | (partition + 1)


def parse(words: Mapping[str, int]) -> BatchAt | Culprit | None:
    """What the three words of a dead operator say."""
    source, position, row = words[SOURCE], words[POSITION], words[ROW]
    if not source:
        return None
    if not row:
        return BatchAt(source, position)
    generation, partition = source >> _PARTITION_BITS, (source & _PARTITION_MASK) - 1
    return Culprit(row - 1, generation, partition, position)


class InFlight:
    """The writer: one operator's own three words."""

    def __init__(self, board: Board, operator: str) -> None:
        self._board = board
        self._words = tuple(f"{operator}.{word}" for word in (SOURCE, POSITION, ROW))

    def batch(self, at: BatchAt) -> None:
        """From here on a death is charged to this batch."""
        self._write(at.source, at.position, 0)

    def culprit(self, found: Culprit) -> None:
        """This record is deadly: the process is about to end because of it."""
        word = partition_word(found.generation, found.partition)
        self._write(word, found.offset, found.source + 1)

    def clear(self) -> None:
        """The batch is done: nothing of it will be worked on again."""
        self._board.set(self._words[0], 0)

    def _write(self, source: int, position: int, row: int) -> None:
        source_word, position_word, row_word = self._words
        self._board.set(source_word, 0)
        self._board.set(position_word, position)
        self._board.set(row_word, row)
        self._board.set(source_word, source)
