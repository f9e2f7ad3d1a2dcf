"""The properties of test_finals_are_pure.py go red when a rule of the core is broken on purpose.

Each control breaks one rule in memory, walks a few fixed worlds, and must be caught.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from operators.core import alerts, correlation, evaluation, schedule, watermark, window
from operators.core.correlation import Correlation
from sda_pipeline.limits import PANES_PER_ENCOUNTER
from sda_pipeline.settings import Physics
from tests.property.correlator_rig import Plan, make_world
from tests.property.test_finals_are_pure import NARROW, check_legality, check_purity

WORLDS = 16  # the rarest break shows in one of six
Break = Callable[[pytest.MonkeyPatch], None]


def walk_purity() -> None:
    for seed in range(WORLDS):
        runs = [(seed, Plan(0.2, 0.4, 0.0)), (seed + 1, Plan(0.6, 0.7, 0.15))]
        check_purity(make_world(seed, 150, 2), runs, Physics(watch_km=5.0))


def walk_legality() -> None:
    for seed in range(WORLDS):
        check_legality(make_world(seed, 150, 2), seed, Plan(0.6, 0.4, 0.1), NARROW)


def fold_in_order_of_arrival(patch: pytest.MonkeyPatch) -> None:
    """Adds to a running sum: what came first is added first."""

    def unique(rows: np.ndarray) -> np.ndarray:
        kept: dict[bytes, int] = {}
        for at in range(len(rows)):
            name = rows["id"][at].tobytes()
            before = kept.get(name)
            if before is None or window._content(rows[at]) < window._content(rows[before]):
                kept[name] = at
        return rows[sorted(kept.values())]

    patch.setattr(window, "_unique", unique)


def last_wins(patch: pytest.MonkeyPatch) -> None:
    """Of several rows of one observation the newest replaces the others."""

    def unique(rows: np.ndarray) -> np.ndarray:
        kept = {rows["id"][at].tobytes(): at for at in range(len(rows))}
        rows = rows[sorted(kept.values())]
        return rows[np.lexsort((rows["id"][:, 1], rows["id"][:, 0], rows["t"]))]

    patch.setattr(window, "_unique", unique)


def prior_in_every_pane(patch: pytest.MonkeyPatch) -> None:
    """The catalogue's information counts once for each pane with rows, not once."""
    panes: list[np.ndarray] = []
    sums, prior = evaluation._window_sums, evaluation.prior_information

    def window_sums(indices: Any, last: Any, tca_ns: Any, at: window.Window) -> evaluation._Sums:
        used = [
            sum(at.folded((index, pane - back)) is not None for back in range(6))
            for index, pane in zip(indices, last, strict=True)
        ]
        panes.append(np.maximum(1, used))
        return sums(indices, last, tca_ns, at)

    patch.setattr(evaluation, "_window_sums", window_sums)
    patch.setattr(
        evaluation,
        "prior_information",
        lambda r, v, sigma: prior(r, v, sigma) * panes.pop()[:, None, None],
    )


def retain_a_pane_too_few(patch: pytest.MonkeyPatch) -> None:
    """Rows of the oldest pane an encounter can use count as unpaired."""
    patch.setattr(schedule, "PANES_PER_ENCOUNTER", PANES_PER_ENCOUNTER - 1)


def rows_lost_in_a_crash(patch: pytest.MonkeyPatch) -> None:
    """The store gives back every second frame of rows only."""
    restore = Correlation.restore

    def half(self: Correlation, stored: list[tuple[tuple[str, int], np.ndarray]]) -> None:
        restore(self, [(key, rows) for key, rows in stored if key[1] % 2])

    patch.setattr(Correlation, "restore", half)


def late_by_the_newest_row(patch: pytest.MonkeyPatch) -> None:
    """Lateness judged a batch at a time, against the batch's own newest row."""

    def judge(self: watermark.EventClock, partition: np.ndarray, t: np.ndarray) -> np.ndarray:
        late = np.zeros(len(t), np.bool_)
        for number in np.unique(partition).tolist():
            here = partition == number
            mark = max(self.watermarks[number], int(t[here].max()) - self._max_lateness)
            self.watermarks[number] = mark
            late[here] = t[here] < mark - self._allowed
        return late

    patch.setattr(watermark.EventClock, "judge", judge)


def lower_at_once(patch: pytest.MonkeyPatch) -> None:
    """Downgrades wait for nothing."""
    patch.setattr(alerts, "_may_lower", lambda *_: True)


def lower_only_on_new_rows(patch: pytest.MonkeyPatch) -> None:
    """Nobody remembers that event time alone may lower an alert."""
    patch.setattr(correlation.alerts, "wants_downgrade", lambda *_: False)


def raise_late(patch: pytest.MonkeyPatch) -> None:
    """Levels are told in the final only."""
    patch.setattr(correlation.alerts, "provisional", lambda *_: [])


def sequence_stands_still(patch: pytest.MonkeyPatch) -> None:
    """Every record of an alert carries its first sequence."""
    patch.setattr(alerts, "_next", lambda state, context: (context.epoch << 32) | 1)


def close_a_pane_early(patch: pytest.MonkeyPatch) -> None:
    """Finals do not wait for the allowed lateness."""
    made = Correlation.__init__

    def init(self: Correlation, *args: Any) -> None:
        made(self, *args)
        self._lateness_ns = 0

    patch.setattr(Correlation, "__init__", init)


IMPURE = [
    fold_in_order_of_arrival, last_wins, prior_in_every_pane, retain_a_pane_too_few,
    rows_lost_in_a_crash, late_by_the_newest_row,
]  # fmt: skip
ILLEGAL = [
    lower_at_once, lower_only_on_new_rows, raise_late, sequence_stands_still,
    close_a_pane_early, prior_in_every_pane,
]  # fmt: skip


@pytest.mark.parametrize("break_it", IMPURE)
def test_purity_goes_red(break_it: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it(monkeypatch)
    with pytest.raises(AssertionError):
        walk_purity()


@pytest.mark.parametrize("break_it", ILLEGAL)
def test_legality_goes_red(break_it: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it(monkeypatch)
    with pytest.raises(AssertionError):
        walk_legality()
