"""The catalogue: usable objects in satNo order, their SGP4 states. Not interpolation, not files.

TEME, metres, seconds; SGP4 with WGS-72 constants (PyPI ``sgp4``, Vallado et al., AIAA 2006-6753).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from sgp4.api import SGP4_ERRORS, SatrecArray

from sda_pipeline.astro.columns import F8, I8
from sda_pipeline.astro.elements import Element, Refusal, read_elements
from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.limits import PANE_NS
from sda_pipeline.settings import Physics, Prior

RADIUS_MIN_KM, RADIUS_MAX_KM = 6_450.0, 100_000.0
SPEED_MAX_KM_S = 15.0
DAY_NS = 86_400_000_000_000
JD_1970 = 2_440_587.5
MINUTES_PER_DAY = 1_440.0
KM = 1_000.0
REFUSALS_SHOWN = 5  # in the error when nothing is usable


class Catalogue:
    """Objects that can be propagated, ascending by satNo; an object's index is its place here.

    Attributes:
        n: number of objects.
        satno: u4[n] ascending. names: the element set's name, else the satNo as text.
        mean_motion: f8[n] rev/day. period_s: f8[n].
        leo: bool[n], mean motion at least the default ``leo_min_rev_per_day`` (SPEC 2);
            ``prior_sigma`` takes the bound from the settings it is given.
        satrecs: ``sgp4.api.Satrec`` in satNo order (their own numbers mean nothing).
        refused: (satNo or 0, reason) of every element set left out.
    """

    def __init__(self, elements: Sequence[Element], refused: Sequence[Refusal]) -> None:
        """Take usable elements, at most one per satNo, in any order."""
        ordered = sorted(elements, key=lambda element: element.satno)
        self.n = len(ordered)
        self.satno = np.array([element.satno for element in ordered], np.uint32)
        self.names = [element.name for element in ordered]
        self.satrecs: list[Any] = [element.satrec for element in ordered]
        self.refused = list(refused)
        rad_per_min = np.array([satrec.no_kozai for satrec in self.satrecs], np.float64)
        self.mean_motion: F8 = rad_per_min * MINUTES_PER_DAY / (2.0 * np.pi)
        self.period_s: F8 = 86_400.0 / self.mean_motion
        self.leo: npt.NDArray[np.bool_] = self.mean_motion >= Physics().leo_min_rev_per_day
        self._sorted: I8 = self.satno.astype(np.int64)

    @cached_property
    def _array(self) -> Any:
        return SatrecArray(self.satrecs)  # a copy of every satrec: only for who needs nodes

    def index(self, sat: npt.NDArray[Any]) -> I8:
        """Index of each satNo (any integer dtype, [m]) as i8[m]; -1 where it is unknown."""
        wanted = sat.astype(np.int64, copy=False)
        place = np.minimum(np.searchsorted(self._sorted, wanted), self.n - 1)
        found: I8 = np.where(self._sorted[place] == wanted, place, -1)
        return found

    def nodes(self, pane: int) -> tuple[F8, F8]:
        """SGP4 states of all objects at the pane's start, 5 s x pane: r f8[n,3] m, v f8[n,3] m/s.

        NaN where SGP4 reports an error there. Equal to ``state_at`` bit for bit.
        """
        states = sgp4_states(self._array, [pane * PANE_NS])[:, 0]
        return states[:, :3], states[:, 3:]

    def state_at(self, index: int, t_ns: int) -> tuple[F8, F8]:
        """SGP4 state of one object: r f8[3] m, v f8[3] m/s; NaN where SGP4 reports an error."""
        error, r, v = self.satrecs[index].sgp4(*julian(t_ns))
        if error:
            return np.full(3, np.nan), np.full(3, np.nan)
        return np.array(r) * KM, np.array(v) * KM


def julian(t_ns: int) -> tuple[float, float]:
    """Julian date split at the UTC midnight: (exact half-integer day, fraction to 1e-11 s)."""
    days, rest = divmod(t_ns, DAY_NS)
    return JD_1970 + days, rest / DAY_NS


def sgp4_states(array: Any, times_ns: Sequence[int]) -> F8:
    """States of all objects of a ``SatrecArray`` at all times: f8[objects,times,6] m and m/s.

    NaN where SGP4 reports an error.
    """
    split = [julian(t_ns) for t_ns in times_ns]
    error, r, v = array.sgp4(np.array([jd for jd, _ in split]), np.array([fr for _, fr in split]))
    states = np.concatenate([r, v], axis=2)
    states *= KM
    if error.any():
        states[error != 0] = np.nan
    return states


def parse_catalogue(text: str, fmt: str) -> Catalogue:
    """The catalogue in ``text``: a pure function of it.

    Refused and listed: what cannot be read; objects that SGP4 cannot propagate to their own epoch,
    or whose radius there is outside 6,450..100,000 km or speed above 15 km/s (SPEC 2); of several
    usable element sets of one satNo all but the newest (of equal epochs the last in the file).

    Args:
        fmt: ``tle`` (two- or three-line), ``csv``, ``json`` or ``xml`` (OMM).

    Raises:
        InvalidConfiguration: unknown format, or no usable object.
    """
    elements, refused = read_elements(text, fmt)
    newest: dict[int, Element] = {}
    for element in elements:
        reason = _unusable(element.satrec)
        if reason:
            refused.append((element.satno, reason))
            continue
        other = newest.setdefault(element.satno, element)
        if other is not element:
            _, newest[element.satno] = sorted((other, element), key=_epoch)
            refused.append(
                (element.satno, "duplicate: the element set of the newest epoch is kept")
            )
    if not newest:
        reasons = [f"object {satno}: {reason}" for satno, reason in refused[:REFUSALS_SHOWN]]
        raise InvalidConfiguration(
            "use the catalogue",
            [f"no usable object in it ({len(refused)} refused)", *reasons],
            "give a file of two- or three-line elements or OMM csv/json/xml",
        )
    return Catalogue(list(newest.values()), refused)


def _epoch(element: Element) -> float:
    epoch: float = element.satrec.jdsatepoch + element.satrec.jdsatepochF
    return epoch


def _unusable(satrec: Any) -> str:
    """Why an object is refused at its own epoch (SPEC 2), or ''."""
    error, (x, y, z), (vx, vy, vz) = satrec.sgp4(satrec.jdsatepoch, satrec.jdsatepochF)
    if error:
        return f"SGP4 error {error} at its epoch: {SGP4_ERRORS.get(error, 'unknown')}"
    radius_km = (x * x + y * y + z * z) ** 0.5
    speed_km_s = (vx * vx + vy * vy + vz * vz) ** 0.5
    if not RADIUS_MIN_KM <= radius_km <= RADIUS_MAX_KM:
        allowed = f"{RADIUS_MIN_KM:.0f}..{RADIUS_MAX_KM:.0f}"
        return f"radius {radius_km:.0f} km at its epoch, {allowed} allowed"
    if not speed_km_s <= SPEED_MAX_KM_S:
        return f"speed {speed_km_s:.2f} km/s at its epoch, at most {SPEED_MAX_KM_S:.0f} allowed"
    return ""


def prior_sigma(catalogue: Catalogue, physics: Physics) -> F8:
    """One-sigma catalogue uncertainty of each object in RTN by class (SPEC 2): f8[n,6] m, m/s."""
    leo = catalogue.mean_motion >= physics.leo_min_rev_per_day
    low = np.array([*physics.leo.pos_m, *physics.leo.vel_m_s])
    deep = np.array([*physics.deep.pos_m, *physics.deep.vel_m_s])
    return np.where(leo[:, None], low, deep)


def configuration_hash(catalogue: bytes, sensors: bytes, physics: Physics) -> int:
    """First 8 bytes, little-endian, of SHA-256 over catalogue, sensors and physics (SPEC 3).

    Each part is preceded by its length, so bytes cannot move from one part to the next unseen. The
    settings count by value: their order, and 20 against 20.0, make no difference.
    """
    digest = hashlib.sha256()
    for part in (catalogue, sensors, canonical(physics).encode()):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return int.from_bytes(digest.digest()[:8], "little")


def canonical(value: Physics | Prior | tuple[float, ...] | float | str | None) -> str:
    """Settings as text that depends on their values only: fields by name, numbers as floats."""
    if is_dataclass(value):
        named = sorted((field.name, getattr(value, field.name)) for field in fields(value))
        return "{" + ",".join(f"{name}={canonical(item)}" for name, item in named) + "}"
    if isinstance(value, tuple):
        return "(" + ",".join(canonical(item) for item in value) + ")"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(float(value))
    return repr(value)
