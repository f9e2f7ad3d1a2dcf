"""Which sensor can see which object when: elevation over the horizon. No night, no link budget.

An ISL terminal sees every LEO object (it is a cross-link of the constellation, not a place on the
ground).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sda_pipeline.astro.reference import Site, site_teme
from sda_pipeline.sensors import SensorRegistry
from sda_pipeline.settings import ISL, OPTICAL, RADAR

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# Ten degrees, so that a list ten seconds old still holds nothing below five.
ELEVATION_MIN_DEG = {RADAR: 10.0, OPTICAL: 15.0}
_HORIZON = {kind: np.sin(np.radians(degrees)) for kind, degrees in ELEVATION_MIN_DEG.items()}
# How a well-observed object's measurements divide among the kinds that see it.
KIND_WEIGHT = {RADAR: 0.60, OPTICAL: 0.15, ISL: 0.25}


class Sites(NamedTuple):
    """The registry's sensors as the simulator needs them, s of them, in registry order.

    Sensors of a kind that has no source in the topology are not ``active``: they see nothing.
    """

    registry: SensorRegistry
    kind: I8
    lat: F8
    lon: F8
    alt_m: F8
    active: Mask

    @staticmethod
    def of(registry: SensorRegistry, kinds: Collection[int] = (RADAR, OPTICAL, ISL)) -> Sites:
        """Adapt a registry; only sensors of ``kinds`` are active."""
        return Sites(
            registry, registry.kinds,
            registry.column("lat"), registry.column("lon"), registry.column("alt_m"),
            np.isin(registry.kinds, [*kinds]),
        )  # fmt: skip

    def at(self, sensor: I8, t_ns: I8, dut1_s: float) -> Site:
        """The places of ``sensor`` (m,) at ``t_ns`` (m,), in TEME."""
        return site_teme(t_ns, self.lat[sensor], self.lon[sensor], self.alt_m[sensor], dut1_s)


def elevation_sine(r: F8, site: Site) -> F8:
    """Sine of the elevation of r (n,3) m over a site's horizon (its arrays (1,3) or (n,3)).

    f8[n].
    """
    d = r - site.p
    up = d[:, 0] * site.up[:, 0] + d[:, 1] * site.up[:, 1] + d[:, 2] * site.up[:, 2]
    return up / np.sqrt(d[:, 0] * d[:, 0] + d[:, 1] * d[:, 1] + d[:, 2] * d[:, 2])


def visible(sites: Sites, r: F8, leo: Mask, t_ns: I8, dut1_s: float) -> Mask:
    """Who sees whom: bool[s, n] for r (n,3) m TEME at ``t_ns`` (1,) or (n,); NaN: nobody."""
    finite = np.isfinite(r[:, 0])
    seen = np.zeros((len(sites.kind), len(r)), dtype=np.bool_)
    everywhere = sites.at(np.arange(len(sites.kind)), t_ns, dut1_s) if len(t_ns) == 1 else None
    for k, kind in enumerate(sites.kind.tolist()):
        if not sites.active[k]:
            continue
        if kind == ISL:
            seen[k] = finite & leo
            continue
        if everywhere is None:
            here = sites.at(np.full(len(t_ns), k), t_ns, dut1_s)
        else:
            here = Site(*(column[k : k + 1] for column in everywhere))
        with np.errstate(invalid="ignore"):
            seen[k] = elevation_sine(r, here) >= _HORIZON[kind]
    return seen


def choose_sensors(seen: Mask, sites: Sites, draw: F8) -> I8:
    """One sensor per object among those that see it: kind by weight, then evenly within it.

    ``seen`` bool[s, m], ``draw`` (m,) uniform in [0, 1). -1 where nobody sees the object.
    """
    weight = np.zeros(seen.shape)
    for kind, share in KIND_WEIGHT.items():
        of_kind = seen & (sites.kind == kind)[:, None]
        weight += of_kind * (share / np.maximum(1, of_kind.sum(axis=0)))
    ladder = np.cumsum(weight, axis=0)
    total = ladder[-1] if len(ladder) else np.zeros(seen.shape[1])
    chosen = (ladder <= draw * total).sum(axis=0)
    return np.where(total > 0.0, np.minimum(chosen, len(sites.kind) - 1), -1)
