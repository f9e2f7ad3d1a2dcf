"""What a sensor reports about a true state: forward model plus noise. Not who observes whom.

Columns are in wire units (deg, km, km/s). ``rng`` None means noise-free: the exact prediction.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sda_pipeline.astro.measurement import predict_optical, predict_radar
from sda_pipeline.astro.reference import j2000_to_teme_for, pane_of
from sda_pipeline.cli.sim.visibility import Sites
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.settings import ISL, OPTICAL, RADAR

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]

SIGMAS = {
    RADAR: ("azimuth_unc", "elevation_unc", "range_unc", "range_rate_unc"),
    OPTICAL: ("ra_unc", "declination_unc"),
    ISL: ("pos_unc", "pos_unc", "pos_unc", "vel_unc", "vel_unc", "vel_unc"),
}
_DIGITS = 9  # of a degree, a km, a km/s: micrometres; keeps the JSON short


class Shots(NamedTuple):
    """Who measures whom when: catalogue index, registry index, true time (ns); m of one kind."""

    index: I8  # type: ignore[assignment]  # shadows tuple.index
    sensor: I8
    t_ns: I8

    def take(self, which: I8 | npt.NDArray[np.bool_]) -> Shots:
        """Some of them."""
        return Shots(*(column[which] for column in self))


def sigmas(kind: int, sensor: I8, sites: Sites) -> F8:
    """One-sigma noise of each measured column, wire units, (m, columns)."""
    return np.stack([sites.registry.column(name)[sensor] for name in SIGMAS[kind]], axis=1)


def predict(kind: int, shots: Shots, true: tuple[F8, F8], sites: Sites, dut1_s: float) -> F8:
    """The exact measurement of true states (r, v), each (m,3) SI TEME: (m, columns), wire units.

    radar: azimuth, elevation, range, range rate; optical: ra, declination (J2000); isl: TEME state.
    """
    r, v = true
    if kind == ISL:
        return np.concatenate([r, v], axis=1) / 1000.0
    site = sites.at(shots.sensor, shots.t_ns, dut1_s)
    if kind == RADAR:
        azimuth, elevation, distance, rate = predict_radar(r, v, site)
        return np.stack([azimuth, elevation, distance / 1000.0, rate / 1000.0], axis=1)
    ra, dec = predict_optical(r, v, site, j2000_to_teme_for(pane_of(shots.t_ns)))
    return np.stack([ra, dec], axis=1)


def measure(
    kind: int,
    shots: Shots,
    true: tuple[F8, F8],
    sites: Sites,
    dut1_s: float,
    *,
    rng: np.random.Generator | None,
) -> tuple[F8, I8]:
    """The reported (m, columns) and ``obTime`` (m,) ns, with the sensor's noise and clock."""
    exact = predict(kind, shots, true, sites, dut1_s)
    stamp = shots.t_ns
    if rng is not None:
        noise = rng.standard_normal(exact.shape) * sigmas(kind, shots.sensor, sites)
        if kind == OPTICAL:  # raUnc is on the sky
            noise[:, 0] /= np.maximum(1e-6, np.cos(np.radians(exact[:, 1])))
        exact = exact + noise
        clock = sites.registry.column("time_sigma_s")[shots.sensor]
        error = rng.standard_normal(len(stamp)) * clock
        stamp = stamp + np.rint(error * SECOND_NS).astype(np.int64)
    if kind != ISL:
        _wrap(exact)
    return np.round(exact, _DIGITS), stamp


def _wrap(columns: F8) -> None:
    """Bring (azimuth, elevation) or (ra, declination) pushed over the pole back into range."""
    over = np.abs(columns[:, 1]) > 90.0
    columns[over, 0] += 180.0
    columns[over, 1] = np.copysign(180.0, columns[over, 1]) - columns[over, 1]
    columns[:, 0] %= 360.0
