"""One RFC 3339 UTC time to and from integer nanoseconds, without numpy. Columns: ``times.py``.

The sinks read a few times a second and start sooner without numpy; a test holds both to each other.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from sda_pipeline.limits import SECOND_NS

_FORM = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
_START = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_FIRST, YEAR_LAST = 1970, 2115  # TIME_END_NS (2**62 ns) lies in 2116


def parse_time(text: str) -> int:
    """Nanoseconds since 1970; ValueError on anything but ``TIME_RULE`` of ``times.py``."""
    match = _FORM.fullmatch(text)
    if match is None or not YEAR_FIRST <= int(text[:4]) <= YEAR_LAST:
        raise ValueError(f"{text!r} is no RFC 3339 time")
    moment = datetime.strptime(f"{match[1]}+0000", "%Y-%m-%dT%H:%M:%S%z")
    fraction = (match[2] or "").ljust(9, "0")
    return (moment - _START) // timedelta(seconds=1) * SECOND_NS + int(fraction)


def format_time(nanoseconds: int) -> str:
    """RFC 3339 with 9 digits and ``Z``, as every record of the pipeline writes times."""
    seconds, below = divmod(nanoseconds, SECOND_NS)
    moment = _START + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{below:09d}Z"
