"""The encounter schedule as the correlator uses it: panes computed on demand, who needs a row.
Pure memo.

Identity and TCA of every encounter come from the catalogue alone (SPEC 5), so any order of arrival
and any
incarnation names an encounter alike. Not where rows are kept nor where encounters are evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sda_pipeline.astro.catalogue import Catalogue
from sda_pipeline.astro.encounter import NodeCache, Scheduled, schedule_pane
from sda_pipeline.limits import PANE_NS, PANES_PER_ENCOUNTER, SECOND_NS
from sda_pipeline.settings import Physics

ADOPT_WITHIN_NS = 60 * SECOND_NS  # a new catalogue's encounter of the same pair is the same event


class OpenAlert(NamedTuple):
    """An encounter that already has an alert under an older catalogue; its id is kept."""

    alert_id: str
    low: int
    high: int
    tca_ns: int


def pane_of(t_ns: int) -> int:
    """The pane of a time: floor(t / 5 s)."""
    return t_ns // PANE_NS


def tau(pane: int) -> int:
    """The end of a pane, ns."""
    return (pane + 1) * PANE_NS


class Schedule:
    """Scheduled encounters by pane of their TCA_cat, and which objects could use a row of a
    pane.
    """

    def __init__(
        self, catalogue: Catalogue, physics: Physics, adopted: Iterable[OpenAlert] = ()
    ) -> None:
        self.catalogue, self._physics = catalogue, physics
        self.co_orbital = 0
        self._nodes = NodeCache(catalogue)
        self._panes: dict[int, list[Scheduled]] = {}
        self._busy: dict[int, npt.NDArray[np.bool_]] = {}
        self._needed: dict[int, npt.NDArray[np.bool_]] = {}
        self._of_object: dict[int, list[Scheduled]] = {}
        self._adopted: dict[tuple[int, int], list[OpenAlert]] = {}
        for alert in adopted:
            self._adopted.setdefault((alert.low, alert.high), []).append(alert)

    def computed(self, pane: int) -> bool:
        """Whether the encounters of a pane are known without further work."""
        return pane in self._panes

    def compute(self, pane: int) -> None:
        """Make sure one pane's encounters are known (about 25 ms for 26,000 objects)."""
        if pane in self._panes:
            return
        found = schedule_pane(self.catalogue, pane, self._physics, self._nodes)
        self.co_orbital += found.co_orbital
        encounters = [self._adopt(encounter) for encounter in found.encounters]
        busy = np.zeros(self.catalogue.n, dtype=np.bool_)
        for encounter in encounters:
            for index in (encounter.low_index, encounter.high_index):
                busy[index] = True
                self._of_object.setdefault(index, []).append(encounter)
        self._panes[pane], self._busy[pane] = encounters, busy

    def _adopt(self, encounter: Scheduled) -> Scheduled:
        for alert in self._adopted.get((encounter.low, encounter.high), ()):
            if abs(alert.tca_ns - encounter.tca_ns) <= ADOPT_WITHIN_NS:
                return encounter._replace(alert_id=alert.alert_id)
        return encounter

    def needed(self, pane: int) -> npt.NDArray[np.bool_]:
        """Per object: does it have an encounter that could use a row of this pane? bool[n]."""
        mask = self._needed.get(pane)
        if mask is None:
            mask = np.zeros(self.catalogue.n, dtype=np.bool_)
            for later in range(pane, pane + PANES_PER_ENCOUNTER):
                self.compute(later)
                mask |= self._busy[later]
            self._needed[pane] = mask
        return mask

    def users(self, index: int, pane: int) -> list[Scheduled]:
        """The encounters of an object that can use its rows of a pane (TCA in pane ..

        pane + 11).
        """
        last = pane + PANES_PER_ENCOUNTER
        found = self._of_object.get(index, ())
        return [e for e in found if pane <= pane_of(e.tca_ns) < last]

    def forget_before(self, pane: int) -> None:
        """Drop panes whose encounters are all closed."""
        for old in [p for p in self._panes if p < pane]:
            for encounter in self._panes.pop(old):
                for index in (encounter.low_index, encounter.high_index):
                    left = [e for e in self._of_object.get(index, ()) if e is not encounter]
                    self._of_object[index] = left
            del self._busy[old]
        for old in [p for p in self._needed if p < pane]:
            del self._needed[old]
