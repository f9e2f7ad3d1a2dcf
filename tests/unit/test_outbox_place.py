"""Which outbox position follows which: the rule of core/outbox.py, case by case."""

from __future__ import annotations

import pytest

from operators.core.outbox import Place, place_of
from tests.unit.alert_rig import at

CASES = [
    ("the first of a first epoch, empty store", 0, at(1), 0, Place.NEXT),
    ("a later one, empty store", 0, at(2), 0, Place.GAP),
    ("a later one, empty store, announced", 0, at(2), at(2), Place.NEXT),
    ("another than the announced one", 0, at(3), at(2), Place.GAP),
    ("the next", at(7), at(8), 0, Place.NEXT),
    ("the same", at(7), at(7), 0, Place.KNOWN),
    ("an older one", at(7), at(3), 0, Place.KNOWN),
    ("one too far", at(7), at(9), 0, Place.GAP),
    ("one too far, announced", at(7), at(9), at(9), Place.NEXT),
    ("a new epoch", at(7), at(1, epoch=2), 0, Place.NEXT),
    ("a much newer epoch", at(7), at(1, epoch=9), 0, Place.NEXT),
    ("a new epoch without its beginning", at(7), at(2, epoch=2), 0, Place.GAP),
    ("an older epoch", at(1, epoch=2), at(8), 0, Place.KNOWN),
    ("an older epoch, announced", at(1, epoch=2), at(8), at(8), Place.KNOWN),
]


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_the_rule(case: tuple[str, int, int, int, Place]) -> None:
    _, stored, position, horizon, place = case
    assert place_of(stored, position, horizon) is place
