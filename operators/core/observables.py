"""Valid observations as arguments of their reduction: defaults, floors, units, frames (SPEC 1).

Not the physics of a measurement (astro/measurement.py) nor the judgement of its result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sda_pipeline.astro.fusion import unpack21
from sda_pipeline.astro.measurement import Reduced, reduce_isl, reduce_optical, reduce_radar
from sda_pipeline.astro.reference import Site, j2000_to_teme_for, pane_of, site_teme
from sda_pipeline.sensors import SensorRegistry

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]

KM = 1000.0  # m; km/s to m/s as well
POSITION, VELOCITY = ("xpos", "ypos", "zpos"), ("xvel", "yvel", "zvel")
DIAGONAL = np.arange(6)


@dataclass(frozen=True)
class Columns:
    """Valid observations of one kind as columns (m, ...), numbers in wire units."""

    index: I8  # position in the batch
    sensor_ids: list[str]
    ids: npt.NDArray[np.uint64]  # (m, 2)
    sat: I8
    t: I8  # ns
    object: I8  # catalogue index
    sensor: I8  # registry index
    numbers: dict[str, F8]  # by wire name, NaN = not sent
    j2000: npt.NDArray[np.bool_]
    cov: F8  # isl (m, 21)

    def take(self, rows: I8) -> Columns:
        """Some of the rows. Columns stay contiguous, so numpy computes them alike in any cut."""
        return Columns(
            self.index[rows],
            [self.sensor_ids[k] for k in rows.tolist()],
            self.ids[rows],
            self.sat[rows],
            self.t[rows],
            self.object[rows],
            self.sensor[rows],
            {name: column[rows] for name, column in self.numbers.items()},
            self.j2000[rows],
            self.cov[rows],
        )


class Observables:
    """Reduces columns against predicted states ``r, v`` (m, 3) with priors (m, 6), SI and TEME."""

    def __init__(self, sensors: SensorRegistry, dut1_s: float) -> None:
        self._sensors, self._dut1_s = sensors, dut1_s

    def radar(self, c: Columns, r: F8, v: F8, prior: F8) -> Reduced:
        """Azimuth, elevation, range and, where sent, range rate."""
        lat, lon, alt_m = (self._of_sensor(c, name) for name in ("lat", "lon", "alt_m"))
        angle_deg = self._of_sensor(c, "angle_floor_deg")
        range_m = self._or_sensor(c, "rangeUnc", "range_unc") * KM
        rate_m_s = self._or_sensor(c, "rangeRateUnc", "range_rate_unc") * KM
        return reduce_radar(
            r,
            v,
            site_teme(c.t, lat, lon, alt_m, self._dut1_s),
            c.numbers["azimuth"],
            c.numbers["elevation"],
            c.numbers["range"] * KM,
            c.numbers["rangeRate"] * KM,
            self._or_sensor(c, "azimuthUnc", "azimuth_unc"),
            np.maximum(self._or_sensor(c, "elevationUnc", "elevation_unc"), angle_deg),
            np.maximum(range_m, self._of_sensor(c, "range_floor_m")),
            np.maximum(rate_m_s, self._of_sensor(c, "rate_floor_m_s")),
            self._or_sensor(c, "timeUnc", "time_sigma_s"),
            prior,
            np.radians(angle_deg),
        )

    def optical(self, c: Columns, r: F8, v: F8, prior: F8) -> Reduced:
        """Right ascension and declination, J2000."""
        angle_deg = self._of_sensor(c, "angle_floor_deg")
        return reduce_optical(
            r,
            v,
            self._optical_site(c),
            c.numbers["ra"],
            c.numbers["declination"],
            np.maximum(self._or_sensor(c, "raUnc", "ra_unc"), angle_deg),
            np.maximum(self._or_sensor(c, "declinationUnc", "declination_unc"), angle_deg),
            self._or_sensor(c, "timeUnc", "time_sigma_s"),
            j2000_to_teme_for(pane_of(c.t)),
            prior,
        )

    def _optical_site(self, c: Columns) -> Site:
        """The observation's own site where it has one, else the registry's."""
        own_alt = c.numbers["senalt"]
        alt_m = np.where(np.isnan(own_alt), self._of_sensor(c, "alt_m"), own_alt * KM)
        lat, lon = self._or_sensor(c, "senlat", "lat"), self._or_sensor(c, "senlon", "lon")
        return site_teme(c.t, lat, lon, alt_m, self._dut1_s)

    def isl(self, c: Columns, r: F8, v: F8, prior: F8) -> Reduced:
        """State vectors, turned to TEME where they are in J2000."""
        state = np.stack([c.numbers[name] for name in (*POSITION, *VELOCITY)], axis=1) * KM
        pos_m = self._or_sensor(c, "posUnc", "pos_unc") * KM
        vel_m_s = self._or_sensor(c, "velUnc", "vel_unc") * KM
        cov = np.zeros((len(c.t), 6, 6))
        sigma = np.stack([pos_m] * 3 + [vel_m_s] * 3, axis=1)
        cov[:, DIAGONAL, DIAGONAL] = sigma * sigma
        sent = ~np.isnan(c.cov[:, 0])
        cov[sent] = unpack21(c.cov[sent]) * (KM * KM)
        turned = np.flatnonzero(c.j2000)
        if turned.size:
            axes = np.ascontiguousarray(j2000_to_teme_for(pane_of(c.t[turned])))
            state[turned] = _turn_halves(axes, state[turned][:, :, None])[:, :, 0]
            half = _turn_halves(axes, cov[turned])
            cov[turned] = _turn_halves(axes, half.transpose(0, 2, 1))
        floors = [self._of_sensor(c, "pos_floor_m")] * 3 + [self._of_sensor(c, "vel_floor_m_s")] * 3
        least = np.stack(floors, axis=1)
        cov[:, DIAGONAL, DIAGONAL] = np.maximum(cov[:, DIAGONAL, DIAGONAL], least * least)
        time_s = self._or_sensor(c, "timeUnc", "time_sigma_s")
        return reduce_isl(r, v, state, cov, time_s, prior)

    def _of_sensor(self, c: Columns, name: str) -> F8:
        """A registry column for each row."""
        return self._sensors.column(name)[c.sensor]

    def _or_sensor(self, c: Columns, name: str, default: str) -> F8:
        """What the observation says, else its sensor."""
        own = c.numbers[name]
        return np.where(np.isnan(own), self._of_sensor(c, default), own)


def _turn_halves(axes: F8, columns: F8) -> F8:
    """Rotations (m, 3, 3) applied to the upper and to the lower three rows of (m, 6, w).

    Written out: the order of a library's product may depend on the memory layout of its arguments.
    """
    out = np.empty_like(columns)
    for half in (slice(0, 3), slice(3, 6)):
        x, y, z = (columns[:, None, half.start + k, :] for k in range(3))
        out[:, half] = axes[:, :, 0, None] * x + axes[:, :, 1, None] * y + axes[:, :, 2, None] * z
    return out
