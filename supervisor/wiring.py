"""The shared memory of a run: one ring per edge, and the board. Kept for every incarnation.

Memory only: it vanishes with the tree. Who may write which word is in ring/board.py.
"""

from __future__ import annotations

import contextlib

from sda_pipeline.ring import layout
from sda_pipeline.ring.board import Board, board_words
from sda_pipeline.ring.memory import Mapping, RingFds, close_ring, create_ring
from sda_pipeline.runtime.in_flight import SOURCE
from sda_pipeline.topology import Topology
from supervisor import plan


class Wiring:
    """Every ring and the board of one run. SdaError when memory is short."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._rings: dict[str, RingFds] = {}
        with contextlib.ExitStack() as undo:
            self.board = Board.create(board_words(topology.sources, topology.names))
            undo.callback(self.close)
            for edge in topology.edges:
                self._rings[edge.name] = create_ring(edge.name, edge.capacity_bytes)
            undo.pop_all()

    def rings_of(self, name: str) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Descriptors of an operator's inputs and outputs by edge name."""
        edges = self._topology.edges
        return (
            {edge.name: list(self._rings[edge.name]) for edge in edges if edge.target == name},
            {edge.name: list(self._rings[edge.name]) for edge in edges if edge.source == name},
        )

    def rewire(self, stopped: frozenset[str]) -> None:
        """New rings between operators that are all dead, and their words put back."""
        capacities = {edge.name: edge.capacity_bytes for edge in self._topology.edges}
        for name in plan.rewired(self._topology, stopped):
            fresh = create_ring(name, capacities[name])
            close_ring(self._rings[name])
            self._rings[name] = fresh
        self.board.reset(plan.rewound_words(self._topology, stopped))

    def progress(self, name: str) -> int:
        """A number that changes when an operator has done some of its work."""
        return sum(map(self.board.get, plan.progress_words(self._topology, name)))

    def prepare_life(self, name: str) -> None:
        """Clear what the last incarnation said of its life, before the next is born."""
        self.board.reset(plan.newborn_words(self._topology, name))

    def take_in_flight(self, name: str) -> dict[str, int]:
        """What a dead operator was working on, and clear it; empty when nothing."""
        words = {word: f"{name}.{word}" for word in plan.IN_FLIGHT_WORDS}
        found = {word: self.board.get(full) for word, full in words.items()}
        self.board.reset(words.values())
        return found if found[SOURCE] else {}

    def occupied(self, edge: str) -> int:
        """Bytes published and not yet released, as the cursors say."""
        mapping = Mapping(self._rings[edge].memory)
        try:
            return mapping.words[layout.WORD_HEAD] - mapping.words[layout.WORD_RELEASED]
        finally:
            mapping.close()

    def close(self) -> None:
        """Close every descriptor; the memory goes with the last process that has it mapped."""
        for ring in self._rings.values():
            close_ring(ring)
        self._rings.clear()
        self.board.close()
