"""RFC 3339 UTC times to and from integer nanoseconds, a column at a time. Not a clock."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sda_pipeline.records.time_text import YEAR_FIRST, YEAR_LAST, format_time

__all__ = ["TIME_RULE", "format_time", "format_times", "parse_times"]

I8 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FRACTION_DIGITS_MAX = 9
TIME_RULE = (
    "YYYY-MM-DDTHH:MM:SS[.1 to 9 digits]Z, a real calendar date, no leap second, "
    f"years {YEAR_FIRST}..{YEAR_LAST}"
)

_LENGTHS = (20, *range(22, 22 + FRACTION_DIGITS_MAX))  # 'YYYY-MM-DDTHH:MM:SSZ', then '.d' and more
_TENS = np.array([0, 2, 5, 8, 11, 14, 17])  # of century, year, month, day, hour, minute, second
_MONTHS = np.arange(f"{YEAR_FIRST}-01", f"{YEAR_LAST + 1}-02", dtype="datetime64[M]")
_MONTH_START = _MONTHS.astype("datetime64[D]").astype(np.int64)  # days since 1970
_MONTH_DAYS = np.diff(_MONTH_START)
_HIGHEST = np.array([99, 99, 12, 31, 23, 59, 59], np.uint8)[:, None]
_LOWEST = np.array([0, 0, 1, 1, 0, 0, 0], np.uint8)[:, None]


def parse_times(texts: Sequence[str]) -> tuple[I8, Bools]:
    """Nanoseconds since 1970 (m,) of each text, and which texts are times by ``TIME_RULE`` (m,).

    A text that is not gets 0. Vectorised by text length: producers rarely mix lengths.
    """
    nanoseconds, good = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.bool_)
    lengths = set(map(len, texts))
    joined = "".join(texts)
    if len(lengths) == 1 and joined.isascii():
        length = lengths.pop()
        return _parse_same(joined, length) if length in _LENGTHS else (nanoseconds, good)
    groups: dict[int, list[int]] = {length: [] for length in _LENGTHS}
    for i, text in enumerate(texts):
        if text.isascii() and len(text) in groups:
            groups[len(text)].append(i)
    for length, members in groups.items():
        if members:
            same = _parse_same("".join([texts[i] for i in members]), length)
            nanoseconds[members], good[members] = same
    return nanoseconds, good


def _parse_same(joined: str, length: int) -> tuple[I8, Bools]:
    """Times from ASCII texts of one length, joined."""
    by_text = np.frombuffer(joined.encode("ascii"), np.uint8).reshape(-1, length)
    chars = np.ascontiguousarray(by_text.T)  # one contiguous row per character position
    digits = chars - np.uint8(48)  # wraps to 10 and more for what is no digit
    tens, ones = digits[_TENS], digits[_TENS + 1]
    fraction = digits[20 : length - 1] if length > _LENGTHS[0] else digits[:0]
    good = (tens <= 9).all(axis=0) & (ones <= 9).all(axis=0) & (fraction <= 9).all(axis=0)
    for at, char in ((4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":"), (length - 1, "Z")):
        good &= chars[at] == ord(char)
    if length > _LENGTHS[0]:
        good &= chars[19] == ord(".")
    pairs = tens * np.uint8(10) + ones  # at most 99 where good, so eight bits hold it
    good &= ((pairs >= _LOWEST) & (pairs <= _HIGHEST)).all(axis=0)
    century, year, month, day, hour, minute, second = pairs.astype(np.int64)
    months = (century * 100 + year - YEAR_FIRST) * 12 + month - 1
    good &= (months >= 0) & (months < _MONTH_DAYS.size)
    months[~good] = 0
    good &= day <= _MONTH_DAYS[months]
    weights = 10.0 ** np.arange(8, 8 - len(fraction), -1)  # nine digits are exact in a float
    below = (weights @ fraction.astype(np.float64)).astype(np.int64)
    days = _MONTH_START[months] + day - 1
    nanoseconds = (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000_000 + below
    nanoseconds[~good] = 0
    return nanoseconds, good


def format_times(nanoseconds: I8) -> list[str]:
    """RFC 3339 with 9 digits and ``Z`` for each of (m,) nanoseconds since 1970."""
    texts: list[str] = np.datetime_as_string(
        np.asarray(nanoseconds, np.int64).astype("datetime64[ns]"), unit="ns", timezone="UTC"
    ).tolist()
    return texts
