"""Element sets for the astro tests: the published SGP4 verification set, and made-up orbits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from sgp4 import exporter
from sgp4.api import WGS72, Satrec

from sda_pipeline.astro.catalogue import Catalogue, parse_catalogue

EPOCH_DAYS = 27_850.0  # days since 1949-12-31: 2026-04-01
EPOCH_NS = 1_775_001_600_000_000_000  # the same instant

CBERS2 = (
    "1 28057U 03049A   06177.78615833  .00000060  00000-0  35940-4 0  1836",
    "2 28057  98.4283 247.6961 0000884  88.1964 271.9322 14.35478080140550",
)


@dataclass(frozen=True)
class Published:
    """One block of the verification set: its element lines and the printed ephemeris."""

    satno: int
    lines: tuple[str, str]
    ephemeris: list[list[float]]  # minutes since epoch, km x 3, km/s x 3


def checksummed(line: str) -> str:
    """The line's 68 characters with the checksum digit they need."""
    total = sum(int(c) if c.isdigit() else c == "-" for c in line[:68])
    return f"{line[:68]}{total % 10}"


@cache
def verification_set() -> tuple[Published, ...]:
    """SGP4-VER.TLE with tcppver.out, as the sgp4 package ships them (Vallado et al. 2006)."""
    text = files("sgp4").joinpath("SGP4-VER.TLE").read_text()
    lines = [checksummed(line) for line in text.splitlines() if line[:2] in {"1 ", "2 "}]
    blocks: list[tuple[int, list[list[float]]]] = []
    for line in files("sgp4").joinpath("tcppver.out").read_text().splitlines():
        if line.rstrip().endswith("xx"):
            blocks.append((int(line.split()[0]), []))
        else:
            blocks[-1][1].append([float(field) for field in line.split()[:7]])
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return tuple(
        Published(satno, pair, rows) for (satno, rows), pair in zip(blocks, pairs, strict=True)
    )


def epoch_ns(satrec: Satrec) -> int:
    """Epoch of an element set, exact for the 1e-8 days of two-line elements."""
    whole = round((satrec.jdsatepoch - 2_440_587.5) * 86_400) * 10**9
    return int(whole + round(satrec.jdsatepochF * 86_400 * 10**9))


def satrec(
    satno: int = 1,
    *,
    rev_per_day: float = 15.0,
    eccentricity: float = 0.001,
    angles: tuple[float, float, float, float] = (0.9, 1.0, 2.0, 3.0),  # inclination, node, ...
    epoch_days: float = EPOCH_DAYS,
) -> Satrec:
    """A satellite whose elements an exporter can write; angles in radians."""
    inclination, node, perigee, anomaly = angles
    sat = Satrec()
    motion = rev_per_day * 2.0 * np.pi / 1440.0
    sat.sgp4init(
        WGS72, "i", satno, epoch_days, 1e-5, 0.0, 0.0,
        eccentricity, perigee, inclination, anomaly, motion, node,
    )  # fmt: skip
    sat.classification, sat.intldesg, sat.elnum, sat.revnum, sat.ephtype = "U", "98067A", 1, 1, 0
    return sat


def tle(satno: int = 1, **elements: object) -> str:
    """Two lines of ``satrec(satno, ...)``."""
    return "\n".join(exporter.export_tle(satrec(satno, **elements)))  # type: ignore[arg-type]


@cache
def mixed_catalogue(count: int = 60) -> Catalogue:
    """LEO and, one in five, deep-space objects (12 h and 24 h resonant among them)."""
    rng = np.random.default_rng(7)
    texts = []
    for n in range(count):
        rate = (1.0027, 2.0056, 4.1)[n // 5 % 3] if n % 5 == 4 else rng.uniform(12.0, 15.4)
        angles = (rng.uniform(0.1, 1.8), *rng.uniform(0.0, 6.2, 3))
        texts.append(
            tle(10 * n + 5, rev_per_day=rate, eccentricity=rng.uniform(1e-4, 0.01), angles=angles)
        )
    return parse_catalogue("\n".join(texts), "tle")
