"""What an observation may claim: ranges, sensors, objects, clocks (SPEC 1). Not its JSON.

Each rule is a mask over a chunk and a message for the few it hits; the first rule that hits a row
is its verdict. The rules are tried in the order of SPEC 1, but for the clock: it comes before
whatever needs the trajectory, so that a wild time costs no propagation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.core.pivots import DIAGONAL, smallest_pivot
from sda_pipeline.astro.catalogue import Catalogue
from sda_pipeline.astro.measurement import Reduced
from sda_pipeline.limits import SATNO_MAX, SENSOR_ID_CHARS_MAX
from sda_pipeline.records.wire import (
    MESSAGE_CHARS_MAX,
    Decoded,
    Rejected,
    shortened,
    shown,
)
from sda_pipeline.sensors import (
    ANGLE_UNC_MAX_DEG,
    LENGTH_UNC_MAX_KM,
    RATE_UNC_MAX_KM_S,
    TIME_UNC_MAX_S,
    SensorRegistry,
)
from sda_pipeline.settings import ISL, KIND_NAMES, OPTICAL, RADAR
from sda_pipeline.vocabulary import ErrorKind

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

RADIUS_MIN_KM = 6356.752  # WGS-84 polar radius: below it a point is under the surface anywhere
DISTANCE_MAX_KM = 100_000.0
SPEED_MAX_KM_S = 15.0
PIVOT_MIN = 1e-10  # of a correlation matrix; below, rounding decides whether it is definite
DIRECTION_MAX_DEG = 60.0
COSINE_MIN = 0.5
GATE_PROBABILITY = (
    1e-6  # an honest row fails the gate so often; at 1e-3 a 4-sigma object loses 22 %
)
# Chi-square quantiles at 1 - GATE_PROBABILITY for 0 to 6 degrees of freedom; written out because
# importing scipy.special would cost every source a fifth of a second at each start.
GATES: F8 = np.array(
    [
        np.nan, 23.928126976934827, 27.631021115928547, 30.664849706213598, 33.37684158171984,
        35.888186879672865, 38.25833637720969,
    ]
)  # fmt: skip
MS_MAX = 9_000_000_000_000  # beyond, milliseconds do not fit into nanoseconds


class Range(NamedTuple):
    """Where a number must lie: [low, high], or (0, high] for a sigma."""

    name: str
    low: float
    high: float
    unit: str
    is_sigma: bool = False


def _sigmas(high: float, unit: str, *names: str) -> tuple[Range, ...]:
    return tuple(Range(name, 0.0, high, unit, is_sigma=True) for name in names)


RANGES: dict[int, tuple[Range, ...]] = {
    RADAR: (
        Range("azimuth", -360.0, 360.0, "deg"),
        Range("elevation", -5.0, 90.0, "deg"),
        Range("range", 50.0, DISTANCE_MAX_KM, "km"),
        Range("rangeRate", -SPEED_MAX_KM_S, SPEED_MAX_KM_S, "km/s"),
        *_sigmas(ANGLE_UNC_MAX_DEG, "deg", "azimuthUnc", "elevationUnc"),
        *_sigmas(LENGTH_UNC_MAX_KM, "km", "rangeUnc"),
        *_sigmas(RATE_UNC_MAX_KM_S, "km/s", "rangeRateUnc"),
        *_sigmas(TIME_UNC_MAX_S, "s", "timeUnc"),
    ),
    OPTICAL: (
        Range("ra", -360.0, 360.0, "deg"),
        Range("declination", -90.0, 90.0, "deg"),
        Range("senlat", -90.0, 90.0, "deg"),
        Range("senlon", -360.0, 360.0, "deg"),
        Range("senalt", -1.0, 20.0, "km"),
        *_sigmas(ANGLE_UNC_MAX_DEG, "deg", "raUnc", "declinationUnc"),
        *_sigmas(TIME_UNC_MAX_S, "s", "timeUnc"),
    ),
    ISL: (
        *(
            Range(name, -DISTANCE_MAX_KM, DISTANCE_MAX_KM, "km")
            for name in ("xpos", "ypos", "zpos")
        ),
        *(Range(f"{axis}vel", -SPEED_MAX_KM_S, SPEED_MAX_KM_S, "km/s") for axis in "xyz"),
        *_sigmas(LENGTH_UNC_MAX_KM, "km", "posUnc"),
        *_sigmas(RATE_UNC_MAX_KM_S, "km/s", "velUnc"),
        *_sigmas(TIME_UNC_MAX_S, "s", "timeUnc"),
    ),
}


class Sieve:
    """Collects the verdicts on a chunk. ``alive`` (n,) is who has broken no rule yet."""

    def __init__(self, index: I8, sensors: Sequence[str]) -> None:
        self.alive = np.ones(len(index), np.bool_)
        self.rejects: list[Rejected] = []
        self._index, self._sensors = index, sensors

    def refuse(
        self,
        bad: Bools,
        message: Callable[[int], str],
        kind: ErrorKind = ErrorKind.VALIDATION_FAILED,
    ) -> None:
        """Reject the rows of ``bad`` (n,) that are still alive; ``message`` is asked for each."""
        if not bad.any():
            return
        for k in np.flatnonzero(bad & self.alive).tolist():
            text = shortened(message(k), MESSAGE_CHARS_MAX)
            sensor = self._sensors[k][:SENSOR_ID_CHARS_MAX]
            self.rejects.append(Rejected(int(self._index[k]), kind, text, sensor))
        self.alive &= ~bad

    def survivors(self) -> I8:
        """Places of the rows still alive, ascending."""
        return np.flatnonzero(self.alive)


def check_numbers(kind: int, decoded: Decoded, sieve: Sieve) -> None:
    """Refuse what is not finite, then what is out of range, then an impossible satNo."""
    for name, column in decoded.numbers.items():
        _check_finite(name, column, sieve)
    sieve.refuse(
        _any_column(np.isinf(decoded.cov)),
        lambda _: "not finite: cov holds a number beyond 1.8e308, it must be finite",
    )
    for limit in RANGES[kind]:
        _check_range(limit, decoded.numbers[limit.name], sieve)
    if kind == ISL:
        sigmas = np.array([LENGTH_UNC_MAX_KM] * 3 + [RATE_UNC_MAX_KM_S] * 3)
        sieve.refuse(
            _any_column(decoded.cov[:, DIAGONAL] > sigmas * sigmas),
            lambda k: (
                f"out of range: cov diagonal {decoded.cov[k, DIAGONAL].tolist()}, sigmas at most "
                f"{LENGTH_UNC_MAX_KM:g} km and {RATE_UNC_MAX_KM_S:g} km/s"
            ),
        )
    sieve.refuse(
        (decoded.sat < 1) | (decoded.sat > SATNO_MAX),
        lambda k: (
            f"out of range: satNo {shown(decoded.observations[k].satNo)}, limit [1, {SATNO_MAX}]"
        ),
    )


def _any_column(mask: Bools) -> Bools:
    """Rows (n,) with any true in (n, w)."""
    hit: Bools = np.logical_or.reduce(mask, axis=1)
    return hit


def _check_finite(name: str, column: F8, sieve: Sieve) -> None:
    sieve.refuse(
        np.isinf(column), lambda k: f"not finite: {name} is {column[k]}, it must be a finite number"
    )


def _check_range(limit: Range, column: F8, sieve: Sieve) -> None:
    """NaN is a number that was not sent: it compares false and passes."""
    low = column <= limit.low if limit.is_sigma else column < limit.low
    bracket = "(" if limit.is_sigma else "["
    sieve.refuse(
        low | (column > limit.high),
        lambda k: (
            f"out of range: {limit.name} {column[k]} {limit.unit}, "
            f"limit {bracket}{limit.low:g}, {limit.high:g}]"
        ),
    )


def check_sensors(kind: int, decoded: Decoded, registry: SensorRegistry, sieve: Sieve) -> I8:
    """Refuse unknown sensors and those of another kind. Registry index (n,), -1 where unknown."""
    sensor = registry.indices(decoded.sensors)
    sieve.refuse(
        sensor < 0,
        lambda k: (
            f"unknown sensor: idSensor {shown(decoded.sensors[k])} is not one of the "
            f"{len(registry)} in the registry"
        ),
    )
    sieve.refuse(
        registry.kinds[sensor] != kind,
        lambda k: (
            f"unknown sensor: idSensor {decoded.sensors[k]!r} is of kind "
            f"{KIND_NAMES[int(registry.kinds[sensor[k]])]}, not {KIND_NAMES[kind]}"
        ),
    )
    return sensor


def check_objects(decoded: Decoded, catalogue: Catalogue, sieve: Sieve) -> I8:
    """Refuse objects that are not in the catalogue. Catalogue index (n,), -1 where unknown."""
    found = catalogue.index(decoded.sat)
    sieve.refuse(
        found < 0,
        lambda k: (
            f"unknown object: satNo {decoded.sat[k]} is not one of the "
            f"{catalogue.n} in the catalogue"
        ),
    )
    return found


def check_isl(decoded: Decoded, sieve: Sieve) -> None:
    """Refuse positions under Earth's surface, speeds and covariances that cannot be."""
    numbers = decoded.numbers
    radius = _length(numbers["xpos"], numbers["ypos"], numbers["zpos"])
    speed = _length(numbers["xvel"], numbers["yvel"], numbers["zvel"])
    sieve.refuse(
        radius < RADIUS_MIN_KM,
        lambda k: (
            f"position under Earth's surface: radius {radius[k]:.3f} km, at least {RADIUS_MIN_KM}"
        ),
    )
    sieve.refuse(
        speed > SPEED_MAX_KM_S,
        lambda k: f"speed over the limit: {speed[k]:.3f} km/s, at most {SPEED_MAX_KM_S:g}",
    )
    pivot = smallest_pivot(decoded.cov)
    sieve.refuse(
        ~np.isnan(decoded.cov[:, 0]) & ~(pivot > PIVOT_MIN),
        lambda k: (
            f"cov is not positive definite: smallest pivot {pivot[k]:.3g} of its correlation "
            f"matrix, limit {PIVOT_MIN:g}"
        ),
    )


def _length(x: F8, y: F8, z: F8) -> F8:
    with np.errstate(over="ignore"):  # rows already refused may hold anything
        length: F8 = np.sqrt(x * x + y * y + z * z)
    return length


def check_clock(decoded: Decoded, timestamps_ms: I8, ahead_max_s: float, sieve: Sieve) -> None:
    """Refuse event times too far ahead of the broker's message timestamps (n,), in ms."""
    ahead = decoded.t - np.clip(timestamps_ms, 0, MS_MAX) * 1_000_000
    sieve.refuse(
        ahead > round(ahead_max_s * 1e9),
        lambda k: (
            f"clock ahead: obTime is {ahead[k] / 1e9:.3f} s after the message's timestamp, "
            f"clock_ahead_max {ahead_max_s:g} s"
        ),
    )


def check_reduced(reduced: Reduced, r: F8, sieve: Sieve) -> None:
    """Refuse what does not fit its object: no state, direction, numbers that failed, the gate.

    ``r`` (n, 3) is the predicted position. Rows of ``reduced`` are those of the sieve.
    """
    sieve.refuse(
        _any_column(np.isnan(r)),
        lambda _: "no trajectory: SGP4 gives no state of this object at obTime",
        ErrorKind.PROCESSING_EXCEPTION,
    )
    cosine, nis = reduced.cosine, reduced.nis
    sieve.refuse(
        ~(cosine >= COSINE_MIN),
        lambda k: (
            f"direction: {np.degrees(np.arccos(np.clip(cosine[k], -1.0, 1.0))):.1f} deg from the "
            f"predicted one, at most {DIRECTION_MAX_DEG:g}"
        ),
    )
    broken = _any_column(~np.isfinite(reduced.info)) | _any_column(~np.isfinite(reduced.vec))
    sieve.refuse(
        broken | ~np.isfinite(nis),
        lambda _: "the reduction gives numbers that are not finite",
        ErrorKind.PROCESSING_EXCEPTION,
    )
    sieve.refuse(
        ~(nis <= GATES[reduced.dof]),
        lambda k: (
            f"innovation gate: normalized innovation squared {nis[k]:.2f}, at most "
            f"{GATES[reduced.dof[k]]:.2f} for {reduced.dof[k]} degrees of freedom"
        ),
    )
