"""Whether an alert record of the fast core says what the slow reference says (SPEC 5). No maths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tests.reference.slow_correlator import Evaluation
from tests.reference.slow_geometry import SECOND

RELATIVE = 1e-9
DIAGONAL = (0, 2, 5, 9, 14, 20)  # of a lower triangle by rows


def disagreements(
    record: dict[str, Any], slow: Evaluation, relative: float = RELATIVE
) -> list[str]:
    """Every field of the reference's record from which the core's strays, numbers by ``relative``.

    Vectors count by their length, covariances by their sigmas; times may differ by rounding.
    """
    found = []
    for name, expected in slow.record.items():
        got = record[name]
        if name in {"object1", "object2"}:
            fine = all(
                vector(got[part], expected[part], relative) for part in ("pos_m", "vel_m_s")
            ) and covariance(got["cov"], expected["cov"], relative)
        elif name == "rel_pos_rtn_m":
            fine = vector(got, expected, relative)
        elif name == "tca":
            fine = abs(nanoseconds(got) - nanoseconds(expected)) <= 1 + 1e10 * relative
        elif isinstance(expected, float):
            fine = number(got, expected, relative)
        else:
            fine = got == expected
        if not fine:
            found.append(f"{name}: {got} is not {expected}")
    return found


def number(got: float, expected: float, relative: float) -> bool:
    return abs(got - expected) <= relative * abs(expected)


def vector(got: Sequence[float], expected: Sequence[float], relative: float) -> bool:
    return math.dist(got, expected) <= relative * math.hypot(*expected)


def covariance(got: Sequence[float], expected: Sequence[float], relative: float) -> bool:
    sigma = [math.sqrt(expected[k]) for k in DIAGONAL]
    scales = [sigma[i] * sigma[j] for i in range(6) for j in range(i + 1)]
    return all(
        abs(a - b) <= relative * scale for a, b, scale in zip(got, expected, scales, strict=True)
    )


def nanoseconds(text: str) -> int:
    whole, fraction = text.removesuffix("Z").split(".")
    return round(datetime.fromisoformat(f"{whole}Z").timestamp()) * SECOND + int(fraction)
