"""Times as the options take them: RFC 3339, epoch milliseconds, or so long ago. Not the options."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import click

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.time_text import parse_time

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)(?:\s+ago)?", re.ASCII)
_UNIT_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_EPOCH_MS = re.compile(r"\d{12,14}", re.ASCII)


class Moment(NamedTuple):
    """A point in time, or one relative to now; ns."""

    ns: int
    ago: bool = False

    def at(self, now_ns: int) -> int:
        """UTC ns since 1970."""
        return now_ns - self.ns if self.ago else self.ns


def read_moment(text: str) -> Moment:
    """ValueError when it is none of the three."""
    text = text.strip()
    if match := _AGO.fullmatch(text):
        return Moment(round(float(match[1]) * _UNIT_S[match[2]] * SECOND_NS), ago=True)
    if _EPOCH_MS.fullmatch(text):
        return Moment(int(text) * 1_000_000)
    return Moment(parse_time(text))


class MomentParam(click.ParamType[Moment]):
    """``2026-11-23T12:00:00Z``, ``1795435200000`` or ``2h`` (ago)."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> Moment:
        if isinstance(value, Moment):
            return value
        try:
            return read_moment(str(value))
        except ValueError:
            form = (
                "a UTC time like 2026-11-23T12:00:00Z, epoch milliseconds, or so long ago like 2h"
            )
            self.fail(f"{value!r} is not {form}", param, ctx)
