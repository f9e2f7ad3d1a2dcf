"""Command-line values with units: durations, times, fractions, speeds. Not the commands."""

from __future__ import annotations

import re
from typing import Any

import click

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.times import parse_times

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)?")
_UNIT_S = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_EPOCH_MS = re.compile(r"\d{12,14}")


class Duration(click.ParamType[int]):
    """``60s``, ``15m``, ``1h``, ``500ms``, or plain seconds; becomes nanoseconds."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        match = _DURATION.fullmatch(str(value).strip())
        if match is None or float(match[1]) <= 0.0:
            self.fail(f"{value!r} is not a duration like 60s, 15m or 1h", param, ctx)
        return round(float(match[1]) * _UNIT_S[match[2]] * SECOND_NS)


class Instant(click.ParamType[int]):
    """RFC 3339 in UTC (``2009-02-10T16:55:00Z``) or epoch milliseconds; becomes nanoseconds."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip()
        if _EPOCH_MS.fullmatch(text):
            return int(text) * 1_000_000
        found, good = parse_times([text])
        if not good[0]:
            self.fail(f"{value!r} is not a UTC time like 2009-02-10T16:55:00Z", param, ctx)
        return int(found[0])


class Speed(click.ParamType[float]):
    """A factor above 0, or ``max`` (infinity)."""

    name = "speed"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        try:
            speed = float("inf") if value == "max" else float(value)
        except ValueError:
            speed = 0.0
        if not speed > 0.0:
            self.fail(f"{value!r} is not a factor above 0, nor max", param, ctx)
        return speed
