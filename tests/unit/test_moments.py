"""The three forms of a time in options."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sda_pipeline.cli.reprocess.moments import read_moment
from sda_pipeline.records.time_text import format_time

NOW = 1_795_435_200 * 10**9


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2026-11-23T12:00:00Z", NOW),
        ("2026-11-23T12:00:00.5Z", NOW + 500_000_000),
        ("1795435200123", NOW + 123_000_000),
        ("2h", NOW - 7200 * 10**9),
        ("2h ago", NOW - 7200 * 10**9),
        ("1.5 min", NOW - 90 * 10**9),
        ("90s", NOW - 90 * 10**9),
        ("3d", NOW - 259_200 * 10**9),
    ],
)
def test_forms(text: str, ns: int) -> None:
    assert read_moment(text).at(NOW) == ns


@pytest.mark.parametrize(
    "text",
    ["", "2", "2 weeks", "-2h", "2026-11-23", "2026-11-23T12:00:00", "tomorrow", "179543520"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says, the option says it again
        read_moment(text)


@given(st.integers(0, 10**18))
def test_times_as_we_print_them_can_be_given_back(ns: int) -> None:
    assert read_moment(format_time(ns)).at(NOW) == ns
