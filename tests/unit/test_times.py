"""RFC 3339 times against the calendar of the standard library."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sda_pipeline.limits import TIME_END_NS
from sda_pipeline.records.time_text import parse_time
from sda_pipeline.records.times import format_time, format_times, parse_times

SHAPE = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?Z"
)


def slow(text: str) -> int | None:
    """One text by the standard library; None when it is not a time by our rule."""
    match = SHAPE.fullmatch(text)
    if match is None:
        return None
    *fields, fraction = match.groups()
    try:
        moment = datetime(*map(int, fields), tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        return None
    if not 1970 <= moment.year <= 2115:
        return None
    return int(moment.timestamp()) * 10**9 + int((fraction or "0").ljust(9, "0"))


def fast(texts: list[str]) -> list[int | None]:
    nanoseconds, good = parse_times(texts)
    assert nanoseconds.dtype == np.int64
    assert all(ns == 0 for ns, fine in zip(nanoseconds, good, strict=True) if not fine)
    return [int(ns) if fine else None for ns, fine in zip(nanoseconds, good, strict=True)]


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("2009-02-10T16:55:59.7958Z", 1_234_284_959_795_800_000),
        ("2024-02-29T23:59:59.999999999Z", 1_709_251_199_999_999_999),
        ("2000-02-29T12:00:00.5Z", 951_825_600_500_000_000),
        ("2115-12-31T23:59:59.999999999Z", 4_607_279_999_999_999_999),
    ],
)
def test_golden(text: str, nanoseconds: int) -> None:
    assert fast([text]) == [nanoseconds] == [slow(text)]
    assert nanoseconds < TIME_END_NS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Z",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00z",
        "2026-01-01t00:00:00Z",
        "2026-01-01 00:00:00Z",
        "2026-01-01T00:00:00+00:00",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00,5Z",
        "2026-01-01T00:00:00.1234567890Z",
        "2026-01-01T00:00:60Z",
        "2026-06-30T23:59:60.5Z",
        "2026-01-01T00:60:00Z",
        "2026-01-01T24:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-01-32T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "2116-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "2026-1-01T00:00:00.0Z",
        " 026-01-01T00:00:00Z",
        "+026-01-01T00:00:00Z",
        "2026-01-01T00:00:0/Z",
        "2026-01-01T00:00:0:Z",
        "٢٠٢٦-01-01T00:00:00Z",
        "2026-01-01T00:00:00.5Z\n",
        "2026-01-01T00:00:00\x00",
        "2026-01-01T00:00:00.\ud800Z",
    ],
)
def test_not_a_time(text: str) -> None:
    """Alone, and in the company of good times of the same and of other lengths."""
    good = "2026-01-01T00:00:00.5Z"
    alike = "2026-01-01T00:00:00.".ljust(max(len(text), 22) - 1, "1") + "Z"
    assert slow(text) is None
    assert fast([text]) == [None]
    assert fast([good, text, alike, good]) == [slow(good), None, slow(alike), slow(good)]


def test_nothing_to_parse() -> None:
    nanoseconds, good = parse_times([])
    assert nanoseconds.shape == good.shape == (0,)


NEAR = st.text("0123456789-:.TZ 6", min_size=18, max_size=32)
FORMED = st.builds(
    "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:{:02d}{}Z".format,
    st.integers(1960, 2125), st.integers(0, 13), st.integers(0, 32), st.integers(0, 25),
    st.integers(0, 61), st.integers(0, 61),
    st.text("0123456789", max_size=11).map(lambda digits: digits and f".{digits}"),
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(FORMED | NEAR | st.text(max_size=31), max_size=12))
def test_equals_the_slow_parser(texts: list[str]) -> None:
    assert fast(texts) == [slow(text) for text in texts]


@settings(deadline=None)
@given(st.lists(st.integers(0, 4_607_279_999_999_999_999), min_size=1, max_size=8))
def test_format_and_parse_are_inverse(nanoseconds: list[int]) -> None:
    texts = format_times(np.array(nanoseconds))
    assert all(len(text) == 30 for text in texts)
    assert fast(texts) == nanoseconds
    assert texts == [format_time(ns) for ns in nanoseconds]


@given(st.integers(0, 4_607_000_000 * 10**9))
def test_one_time_alone_is_what_a_column_gives(nanoseconds: int) -> None:
    text = format_time(nanoseconds)
    assert text == format_times(np.array([nanoseconds]))[0]
    assert parse_time(text) == nanoseconds


@given(st.text(alphabet="0123456789-:.TZ ", max_size=32))
def test_one_text_alone_is_judged_as_in_a_column(text: str) -> None:
    times, good = parse_times([text])
    try:
        assert (parse_time(text), True) == (int(times[0]), bool(good[0]))
    except ValueError:
        assert not good[0]
