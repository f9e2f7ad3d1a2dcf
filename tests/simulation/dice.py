"""All chance of one schedule: one seed, one stream, drawn in order. Not where faults are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
DRAWN_AT_ONCE = 512  # a scalar draw from a Generator costs ten times one from a list


class Dice:
    """The same seed gives the same throws, in any process."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._floats: list[float] = []

    def random(self) -> float:
        """Uniform in [0, 1)."""
        if not self._floats:
            self._floats = self._rng.random(DRAWN_AT_ONCE).tolist()
        return self._floats.pop()

    def below(self, n: int) -> int:
        """An integer in 0 .. n - 1."""
        return int(self.random() * n)

    def between(self, low: int, high: int) -> int:
        """An integer in low .. high, both included."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]
