"""A row inside the allowed lateness changes its alert; one beyond it is counted and dropped (P4).

One encounter, one script, cut into batches in every way: the decision is by partition and offset.
"""

from __future__ import annotations

import pytest

from tests.property.script_rig import SOURCE, Seen, play, rows_of, told

CUTS = [(), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3)]


def script(behind_s: float, miss_m: float = 1_200.0, sigma_m: float = 2.0) -> list[Seen]:
    """By the rows in time the pair collides; the last one is ``behind_s`` behind the newest."""
    return [
        Seen(10.0, "low"),
        Seen(10.0, "high", 0.0, 60.0),
        Seen(4.0, "low"),
        Seen(4.0 + behind_s, "high", miss_m, sigma_m),
    ]


@pytest.mark.parametrize("cuts", CUTS)
def test_inside_the_allowed_lateness_it_changes_the_alert(cuts: tuple[int, ...]) -> None:
    """No level is left: what was raised is retracted."""
    emitted, core, late = play(rows_of(script(behind_s=5.0)), cuts)
    assert late == 0
    assert core.positions[SOURCE].applied == 4
    if {2, 3} & set(cuts):  # a collision was told before the fourth row came
        assert told(emitted[0]) == [("insert", "RED", False)]
        assert told(emitted[-1]) == [("retract", None, True)]
    else:
        assert emitted == []


@pytest.mark.parametrize("cuts", CUTS)
def test_beyond_it_the_row_is_counted_and_dropped_whatever_the_cut(cuts: tuple[int, ...]) -> None:
    emitted, core, late = play(rows_of(script(behind_s=5.0 + 1e-9)), cuts)
    assert late == 1
    assert core.positions[SOURCE].applied == 3
    assert told(emitted[-1]) == [("insert", "RED", True)]


def test_a_level_that_changes_is_a_retract_and_an_insert_in_one_entry() -> None:
    """The late row only moves the pair somewhat: YELLOW, not none."""
    emitted, _, _ = play(rows_of(script(4.0, miss_m=440.0, sigma_m=60.0)), (3,))
    assert told(emitted[0]) == [("insert", "RED", False)]
    assert told(emitted[-1]) == [("retract", None, True), ("insert", "YELLOW", True)]
    retract, insert = emitted[-1]
    before = retract["supersedes"]
    assert (retract["sequence"], insert["sequence"]) == (before + 1, before + 2)
