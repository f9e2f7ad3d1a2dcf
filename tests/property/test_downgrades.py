"""A provisional level is lowered once event time has passed the pane, and then by a margin of 3.

One encounter: RED in an early pane; a later pane moves the pair aside by a little more each time.
"""

from __future__ import annotations

import numpy as np
import pytest

from operators.core import alerts
from sda_pipeline.settings import Physics
from tests.property.scene_rig import scene
from tests.property.script_rig import Seen, play, rows_of, told
from tests.reference.slow_correlator import evaluate, row_mapping, sort_out

RAISED = [Seen(20.0, "low"), Seen(20.0, "high", 0.0, 20.0)]
PASSED = Seen(5.5, "idle")  # event time passes the second pane, before anything closes
MISSES = np.concatenate([np.linspace(0.0, 400.0, 9), np.linspace(145.0, 165.0, 21)])


def moved(miss_m: float) -> Seen:
    return Seen(14.0, "high", miss_m, 20.0)


def expected(script: list[Seen]) -> tuple[float, str | None]:
    """Pc and level by the slow reference."""
    at = scene()
    stored = sort_out(map(row_mapping, rows_of(script)), at.encounters).stored
    found = evaluate(stored, at.encounters[0], at.catalogue, Physics())
    assert found is not None
    return found.pc, found.level


def check() -> int:
    """How many of the misses fell into the margin, where the level stays for now."""
    inside = 0
    for miss in MISSES.tolist():
        script = [*RAISED, moved(miss)]
        pc, level = expected(script)
        emitted = play(rows_of([*script, PASSED]), (2, 3)).emitted
        assert told(emitted[0]) == [("insert", "RED", False)]
        provisional = [told(entry) for entry in emitted[1:] if not entry[0]["final"]]
        if level == "RED":
            assert provisional == []
        elif 3.0 * pc < Physics().red_pc:
            insert = [("insert", level, False)] if level else []
            assert provisional == [[("retract", None, False), *insert]]
        else:
            inside += 1
            assert provisional == []
            assert emitted[-1][-1]["level"] == level, "the final has no margin"
    return inside


def test_the_margin_holds_a_level_until_the_final() -> None:
    assert check() >= 5


def test_without_event_time_nothing_is_lowered() -> None:
    script = [*RAISED, moved(400.0)]
    emitted = play(rows_of(script), (2, 3)).emitted
    assert [told(entry) for entry in emitted] == [
        [("insert", "RED", False)], [("retract", None, True)],
    ]  # fmt: skip


def test_a_missing_margin_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    monkeypatch.setattr(alerts, "DOWNGRADE_FACTOR", 1.0)
    with pytest.raises(AssertionError):
        check()
