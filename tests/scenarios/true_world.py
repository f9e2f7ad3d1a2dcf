"""Where simulated objects truly are, written again from SPEC 12: scalar SGP4 of the printed lines.

Nothing of sda_pipeline is used; passages are minima of the distance alone, found by scipy. The
slow, obviously right judge of the simulator's truth file and of the pipeline's finals. No tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.spatial import cKDTree
from sgp4.api import Satrec

DAY_NS = 86_400 * 10**9
JD_1970 = 2_440_587.5
SEARCH_STEP_S = 1.0
CLOSING_MAX_KM_S = 16.0
Offset = tuple[float, float, float]


class Passage(NamedTuple):
    """A minimum of the distance: ns since 1970 (a float would lose them), m, m/s."""

    tca_ns: int
    miss_m: float
    speed_m_s: float


class TrueWorld:
    """Objects of two- or three-line elements, each displaced by its constant RTN offset (m)."""

    def __init__(self, elements: str, offsets: Mapping[int, Offset] | None = None) -> None:
        lines = [line for line in elements.splitlines() if line[:2] in {"1 ", "2 "}]
        pairs = zip(lines[::2], lines[1::2], strict=True)
        self.satrecs = {int(one[2:7]): Satrec.twoline2rv(one, two) for one, two in pairs}
        self.offsets = {s: np.array(c) for s, c in (offsets or {}).items()}

    def state(self, satno: int, t_ns: int, after_s: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """r (3,) m and v (3,) m/s, TEME: ``x_SGP4 + (Q'c, w x Q'c)``."""
        days, rest = divmod(t_ns, DAY_NS)
        fraction = (rest / 1e9 + after_s) / 86_400.0
        error, r, v = self.satrecs[satno].sgp4(JD_1970 + days, fraction)
        assert error == 0
        r, v = np.array(r) * 1e3, np.array(v) * 1e3
        if satno not in self.offsets:
            return r, v
        up, normal = r / np.linalg.norm(r), np.cross(r, v)
        normal /= np.linalg.norm(normal)
        shift = np.array([up, np.cross(normal, up), normal]).T @ self.offsets[satno]
        return r + shift, v + np.cross(np.cross(r, v) / (r @ r), shift)

    def distance(self, one: int, two: int, t_ns: int, after_s: float) -> float:
        """m."""
        return float(
            np.linalg.norm(self.state(two, t_ns, after_s)[0] - self.state(one, t_ns, after_s)[0])
        )

    def passage(self, one: int, two: int, near_ns: int, within_s: float = 5.0) -> Passage:
        """The nearest approach within so much of a time; speed from positions a second apart."""
        best = minimize_scalar(
            lambda s: self.distance(one, two, near_ns, s) ** 2,
            bounds=(-within_s, within_s), method="bounded", options={"xatol": 1e-8},
        )  # fmt: skip
        at = float(best.x)
        ends = [
            self.state(two, near_ns, at + s)[0] - self.state(one, near_ns, at + s)[0]
            for s in (-0.5, 0.5)
        ]
        miss = self.distance(one, two, near_ns, at)
        return Passage(near_ns + round(at * 1e9), miss, float(np.linalg.norm(ends[1] - ends[0])))

    def search(self, start_ns: int, end_ns: int, within_m: float) -> dict[tuple[int, int], Passage]:
        """Every pair's nearest approach below ``within_m`` in a span, by steps over positions."""
        satnos = sorted(self.satrecs)
        seconds = np.arange(-1.0, (end_ns - start_ns) / 1e9 + 1.0, SEARCH_STEP_S)
        days, rest = divmod(start_ns, DAY_NS)
        fractions = (rest / 1e9 + seconds) / 86_400.0
        whole = np.full(len(seconds), JD_1970 + days)
        km = np.array([self.satrecs[s].sgp4_array(whole, fractions)[1] for s in satnos])
        nearest: dict[tuple[int, int], tuple[float, int]] = {}
        for step in range(len(seconds)):
            tree = cKDTree(km[:, step])
            reach = within_m / 1e3 + 1.5 + CLOSING_MAX_KM_S * SEARCH_STEP_S / 2
            for i, j in tree.query_pairs(reach):
                gap = float(np.linalg.norm(km[j, step] - km[i, step]))
                pair = (satnos[i], satnos[j])
                nearest[pair] = min(nearest.get(pair, (gap, step)), (gap, step))
        found = {}
        for pair, (_, step) in nearest.items():
            passage = self.passage(*pair, start_ns + round(seconds[step] * 1e9), SEARCH_STEP_S)
            if passage.miss_m < within_m and start_ns <= passage.tca_ns < end_ns:
                found[pair] = passage
        return found
