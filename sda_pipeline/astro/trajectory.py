"""The catalogue trajectory x(t): Lagrange through SGP4 at pane nodes (SPEC 2). Not SGP4 itself."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from sgp4.api import SatrecArray

from sda_pipeline.astro.catalogue import Catalogue, sgp4_states
from sda_pipeline.astro.columns import F8, I8
from sda_pipeline.limits import PANE_NS

PANES_KEPT = 20  # node sets; 26,000 objects take 1.25 MB each
# Full node sets for a pane pay off once a sixteenth of the catalogue was asked for in it: SGP4 for
# all of 26,000 objects is 12 ms per pane, for the objects of a few rows alone 3 us per row. The
# values are the same to the bit: this decides cost only, for a stream of one row per pane.
FULL_SHARE = 16
PANES_COUNTED = 1_024  # bound on the table of panes asked for but not yet filled

assert PANES_KEPT >= 4


class Trajectory:
    """x(t) of catalogue objects. Holds a cache only: results depend on the arguments alone."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._nodes: OrderedDict[int, F8] = OrderedDict()  # pane -> f8[n,6], oldest use first
        self._asked: dict[int, int] = {}

    def states(self, index: I8, t_ns: I8) -> tuple[F8, F8]:
        """States of objects at times: r f8[m,3] m, v f8[m,3] m/s, TEME.

        Four-point Lagrange over the nodes k-1..k+2 of pane k, positions and velocities each on
        their own; within 1 mm of SGP4 in LEO. NaN where ``index`` is negative or SGP4 fails at a
        node.

        Args:
            index: catalogue indexes i8[m]. t_ns: i8[m].
        """
        pane = t_ns // PANE_NS
        known = index >= 0
        out = np.full((6, len(index)), np.nan)
        for k in np.unique(pane[known]).tolist():
            rows = np.flatnonzero(known & (pane == k))
            s = (t_ns[rows] - k * PANE_NS) / PANE_NS
            out[:, rows] = _lagrange(self._gather(k, index[rows]), s)
        return out[:3].T, out[3:].T

    def _gather(self, k: int, index: I8) -> list[F8]:
        """Node states of the objects, columns f8[6,rows], at the panes k-1, k, k+1, k+2."""
        panes = range(k - 1, k + 3)
        if any(pane not in self._nodes for pane in panes):
            asked = self._asked.get(k, 0) + len(index)
            if asked * FULL_SHARE < self._catalogue.n:
                if len(self._asked) >= PANES_COUNTED:
                    self._asked.clear()
                self._asked[k] = asked
                return self._few(panes, index)
            self._asked.pop(k, None)
        return [np.ascontiguousarray(self._node(pane).take(index, axis=0).T) for pane in panes]

    def _node(self, pane: int) -> F8:
        node = self._nodes.get(pane)
        if node is None:
            node = self._nodes[pane] = np.concatenate(self._catalogue.nodes(pane), axis=1)
            if len(self._nodes) > PANES_KEPT:
                self._nodes.popitem(last=False)
        else:
            self._nodes.move_to_end(pane)
        return node

    def _few(self, panes: range, index: I8) -> list[F8]:
        distinct, place = np.unique(index, return_inverse=True)
        satrecs = self._catalogue.satrecs
        array = SatrecArray([satrecs[i] for i in distinct.tolist()])
        states = sgp4_states(array, [pane * PANE_NS for pane in panes])
        return [np.ascontiguousarray(states[place, n].T) for n in range(len(panes))]


def _lagrange(nodes: list[F8], s: F8) -> F8:
    """Weighted nodes, added in the order of SPEC 2; columns f8[6,m] for s f8[m] in [0, 1)."""
    a, b, c, d = nodes
    w0 = -s * (s - 1.0) * (s - 2.0) / 6.0
    w1 = (s + 1.0) * (s - 1.0) * (s - 2.0) / 2.0
    w2 = -(s + 1.0) * s * (s - 2.0) / 2.0
    w3 = (s + 1.0) * s * (s - 1.0) / 6.0
    state: F8 = ((w0 * a + w1 * b) + w2 * c) + w3 * d
    return state
