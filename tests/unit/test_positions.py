"""Which frame is next, known or beyond a gap, and which log goes on from a position (SPEC 4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from operators.core.positions import Fate, Reached, SourcePosition
from sda_pipeline.records.frames import parse_header
from tests.log_frames import header

A, B, C = 0xA, 0xB, 0xC
APPLY, DROP, GAP = Fate.APPLY, Fate.DROP, Fate.GAP


@pytest.mark.parametrize(
    ("reached", "log_id", "position", "fate"),
    [
        (Reached(), A, 1, APPLY),  # nothing was ever applied
        (Reached(), A, 2, GAP),
        (Reached(A, 1, 7), A, 8, APPLY),
        (Reached(A, 1, 7), A, 7, DROP),
        (Reached(A, 1, 7), A, 1, DROP),
        (Reached(A, 1, 7), A, 9, GAP),
        (Reached(A, 1, 7), B, 8, APPLY),  # made anew exactly here
        (Reached(A, 1, 7), B, 9, GAP),
        (Reached(A, 1, 7), B, 7, GAP),  # made anew before frames of A were taken: other content
        (Reached(A, 1, 7), B, 1, GAP),
        (Reached(B, 8, 8), A, 7, DROP),  # a repeat of the log before
        (Reached(B, 8, 8), A, 8, GAP),
        (Reached(B, 8, 12), C, 10, GAP),
    ],
)
def test_fate(reached: Reached, log_id: int, position: int, fate: Fate) -> None:
    assert reached.fate(header(position, b"", log_id=log_id)) is fate


@pytest.mark.parametrize(
    ("reached", "log_id", "first", "fate"),
    [
        (Reached(A, 1, 7), A, 1, APPLY),
        (Reached(A, 1, 7), B, 8, APPLY),
        (Reached(A, 1, 7), B, 7, GAP),  # B has a 7 of its own, with other content
        (Reached(A, 1, 7), B, 1, GAP),
        (Reached(), A, 1, GAP),
    ],
)
def test_another_log_goes_on_only_from_its_own_beginning(
    reached: Reached, log_id: int, first: int, fate: Fate
) -> None:
    arrived = replace(header(8, b"", log_id=log_id), log_first=first)
    assert reached.fate(arrived) is fate
    assert parse_header(arrived.pack()).log_first == first


def test_the_first_position_of_a_log_is_where_it_was_taken_up() -> None:
    position = SourcePosition()
    for log_id, number in ((A, 1), (A, 2), (B, 3), (B, 4)):
        position.move_to(header(number, b"", log_id=log_id))
    assert position.reached == Reached(B, 3, 4)


@pytest.mark.parametrize(
    ("log_id", "first", "end", "fits"),
    [
        (A, 1, 7, True),
        (A, 1, 20, True),
        (A, 8, 7, True),  # empty, and begins exactly here
        (A, 1, 6, False),  # ends below
        (A, 9, 12, False),  # begins above
        (B, 8, 7, True),
        (B, 8, 12, True),
        (B, 1, 12, False),  # another log that only has the right positions
    ],
)
def test_which_log_goes_on(log_id: int, first: int, end: int, *, fits: bool) -> None:
    assert SourcePosition(log_id=A, log_first=1, position=7).fits(log_id, first, end) is fits


def test_any_first_log_fits_at_its_beginning() -> None:
    assert SourcePosition().fits(A, 1, 0)
    assert SourcePosition().fits(A, 1, 9)
    assert not SourcePosition().fits(A, 5, 9)
