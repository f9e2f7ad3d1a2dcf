"""Measured columns to JSON messages, a slice at a time. Not the wire format's own definition.

records/observations.py defines the format; its one-message encoders copy several dicts each. A
test holds the literals below to them, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import orjson

from sda_pipeline.astro.reference import j2000_to_teme_for, pane_of
from sda_pipeline.cli.sim.observing import SIGMAS, Shots
from sda_pipeline.cli.sim.visibility import Sites
from sda_pipeline.records.times import format_times
from sda_pipeline.settings import ISL, OPTICAL, RADAR

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]
Fields = dict[str, str | int | float | list[float]]

MODE, SOURCE = "SIMULATED", "sda-sim"
# Every fourth sensor states its sigmas in each message, the others rely on the registry; every
# second ISL terminal reports in J2000: so traffic covers the optional parts of the format.
STATES_SIGMAS_EVERY = 4
J2000_EVERY = 2
_WIRE_SIGMAS = {
    RADAR: ("azimuthUnc", "elevationUnc", "rangeUnc", "rangeRateUnc"),
    OPTICAL: ("raUnc", "declinationUnc"),
}


def draw_ids(rng: np.random.Generator, count: int) -> list[str]:
    """Random version 4 UUIDs as text."""
    digits = rng.bytes(16 * count).hex()
    return [
        f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"
        for h in (digits[k : k + 32] for k in range(0, len(digits), 32))
    ]


def extras(kind: int, sites: Sites) -> list[Fields]:
    """The optional fields of each sensor's messages, by registry index; empty for other kinds."""
    found: list[Fields] = []
    for index, sensor in enumerate(sites.registry.sensors):
        extra: Fields = {}
        if sensor.kind == kind == ISL:
            if index % J2000_EVERY:
                extra["cov"] = _diagonal(sensor.pos_unc, sensor.vel_unc)
            else:
                extra["posUnc"], extra["velUnc"] = sensor.pos_unc, sensor.vel_unc
        elif sensor.kind == kind and index % STATES_SIGMAS_EVERY == 0:
            for wire, name in zip(_WIRE_SIGMAS[kind], SIGMAS[kind], strict=True):
                extra[wire] = float(getattr(sensor, name))
        found.append(extra)
    return found


def _diagonal(pos_unc: float, vel_unc: float) -> list[float]:
    """A diagonal 6x6 covariance as 21 terms, lower triangle by rows, km and s."""
    terms = [0.0] * 21
    for row in range(6):
        sigma = pos_unc if row < 3 else vel_unc
        terms[row * (row + 3) // 2] = sigma * sigma
    return terms


class Encoder:
    """Encodes for one registry; ``names`` are the satellites' numbers by catalogue index."""

    def __init__(self, sites: Sites, satno: Sequence[int]) -> None:
        self._sites, self._satno = sites, satno
        self._extras = {kind: extras(kind, sites) for kind in (RADAR, OPTICAL, ISL)}

    def encode(
        self, kind: int, shots: Shots, columns: F8, stamp: I8, ids: Sequence[str]
    ) -> list[bytes]:
        """One message per shot; ``columns`` from observing.measure, ``stamp`` obTime in ns."""
        frames = [""] * len(ids)
        if kind == ISL:
            columns, frames = _to_frames(shots, columns)
        add = {RADAR: _radar, OPTICAL: _optical, ISL: _isl}[kind]
        extra, names = self._extras[kind], self._sites.registry.ids
        messages: list[bytes] = []
        for uuid, index, sensor, time, row, frame in zip(
            ids, shots.index.tolist(), shots.sensor.tolist(), format_times(stamp),
            columns.tolist(), frames, strict=True,
        ):  # fmt: skip
            fields: Fields = {
                "id": uuid, "satNo": self._satno[index], "idSensor": names[sensor],
                "obTime": time, "dataMode": MODE, "source": SOURCE,
            }  # fmt: skip
            add(fields, row, frame)
            if extra[sensor]:
                fields.update(extra[sensor])
            messages.append(orjson.dumps(fields))
        return messages


def _to_frames(shots: Shots, columns: F8) -> tuple[F8, list[str]]:
    """ISL states in the frame their terminal reports in."""
    turned = shots.sensor % J2000_EVERY == 1
    if turned.any():
        back = np.swapaxes(j2000_to_teme_for(pane_of(shots.t_ns[turned])), 1, 2)
        columns = columns.copy()
        for part in (slice(0, 3), slice(3, 6)):
            columns[turned, part] = np.round((back @ columns[turned, part, None])[:, :, 0], 9)
    return columns, np.where(turned, "J2000", "TEME").tolist()


def _radar(fields: Fields, row: list[float], _frame: str) -> None:
    fields["azimuth"], fields["elevation"], fields["range"], fields["rangeRate"] = row


def _optical(fields: Fields, row: list[float], _frame: str) -> None:
    fields["ra"], fields["declination"] = row


def _isl(fields: Fields, row: list[float], frame: str) -> None:
    fields["xpos"], fields["ypos"], fields["zpos"] = row[:3]
    fields["xvel"], fields["yvel"], fields["zvel"] = row[3:]
    fields["referenceFrame"] = frame
