"""The encounter schedule by definition (SPEC 5): all pairs, every pane, scalar SGP4. Not fast."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from sda_pipeline.astro.catalogue import Catalogue
from sda_pipeline.settings import Physics
from tests.reference.slow_geometry import PANE, Vec, dot, norm, sgp4_state, sub


@dataclass(frozen=True)
class Encounter:
    """One pair's distance minimum; states by SGP4 at ``tca_ns`` in m and m/s."""

    alert_id: str
    low: int  # satNo
    high: int
    low_index: int
    high_index: int
    tca_ns: int
    r1: Vec
    v1: Vec
    r2: Vec
    v2: Vec


def alert_id(low: int, high: int, tca_ns: int) -> str:
    key = struct.pack("<IIq", low, high, (tca_ns + 30_000_000_000) // 60_000_000_000)
    return hashlib.blake2b(key, digest_size=16).hexdigest()


def schedule(
    catalogue: Catalogue, panes: range, physics: Physics
) -> tuple[list[Encounter], list[tuple[int, int, int]]]:
    """Encounters of these panes by (tca, low, high); (low, high, tca) of the co-orbital pairs."""
    found: list[Encounter] = []
    slow: list[tuple[int, int, int]] = []
    for pane in panes:
        for one in range(catalogue.n):
            for two in range(one + 1, catalogue.n):
                tca = minimum(catalogue, one, two, pane)
                if tca is None:
                    continue
                (r1, v1), (r2, v2) = (sgp4_state(catalogue, k, tca) for k in (one, two))
                if not norm(sub(r2, r1)) <= 1000.0 * (physics.screening_km + physics.margin_km):
                    continue
                low, high = int(catalogue.satno[one]), int(catalogue.satno[two])
                if norm(sub(v2, v1)) < physics.co_orbital_m_s:
                    slow.append((low, high, tca))
                    continue
                name = alert_id(low, high, tca)
                found.append(Encounter(name, low, high, one, two, tca, r1, v1, r2, v2))
    return sorted(found, key=lambda e: (e.tca_ns, e.low, e.high)), slow


def minimum(catalogue: Catalogue, one: int, two: int, pane: int) -> int | None:
    """When f = dr.dv changes from negative to not negative inside the pane, to 1 us, upper end."""
    low, high = pane * PANE, (pane + 1) * PANE
    if not (closing(catalogue, one, two, low) < 0.0 <= closing(catalogue, one, two, high)):
        return None
    while high - low > 1000:
        middle = (low + high) // 2
        if closing(catalogue, one, two, middle) < 0.0:
            low = middle
        else:
            high = middle
    return high


def closing(catalogue: Catalogue, one: int, two: int, t_ns: int) -> float:
    (r1, v1), (r2, v2) = (sgp4_state(catalogue, k, t_ns) for k in (one, two))
    return dot(sub(r2, r1), sub(v2, v1))
