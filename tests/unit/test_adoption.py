"""Under another catalogue an open encounter keeps its id (SPEC 5)."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from operators.core.schedule import ADOPT_WITHIN_NS, OpenAlert, Schedule, pane_of
from sda_pipeline.astro.catalogue import parse_catalogue
from sda_pipeline.settings import Physics
from tests.unit.encounter_rig import engineered
from tests.unit.orbit_rig import EPOCH_NS

CATALOGUE = parse_catalogue(engineered(), "tle")
FIRST = pane_of(EPOCH_NS)


class Named(NamedTuple):
    """An encounter, as far as its name goes."""

    alert_id: str
    low: int
    high: int
    tca_ns: int


def encounters(*adopted: OpenAlert) -> list[Named]:
    """Those of the first minute, by time."""
    schedule = Schedule(CATALOGUE, Physics(), adopted)
    for pane in range(FIRST, FIRST + 12):
        schedule.compute(pane)
    objects = range(CATALOGUE.n)
    found = {
        Named(e.alert_id, e.low, e.high, e.tca_ns)
        for index in objects
        for e in schedule.users(index, FIRST)
    }
    return sorted(found, key=lambda e: e.tca_ns)


@pytest.mark.parametrize("shift", [-ADOPT_WITHIN_NS, -1, 0, ADOPT_WITHIN_NS])
def test_a_new_encounter_of_the_pair_within_a_minute_takes_the_old_id(shift: int) -> None:
    own = encounters()[0]
    taken = encounters(OpenAlert("old", own.low, own.high, own.tca_ns + shift))[0]
    assert taken == own._replace(alert_id="old")


@pytest.mark.parametrize(
    ("low", "high", "shift"),
    [(0, 0, ADOPT_WITHIN_NS + 1), (0, 0, -ADOPT_WITHIN_NS - 1), (0, 1, 0), (1, 0, 0)],
)
def test_another_pair_or_another_time_does_not(low: int, high: int, shift: int) -> None:
    own = encounters()[0]
    alert = OpenAlert("old", own.low + low, own.high + high, own.tca_ns + shift)
    assert encounters(alert)[0] == own


def test_the_others_keep_their_own() -> None:
    own = encounters()
    assert len(own) >= 3
    found = encounters(OpenAlert("old", own[0].low, own[0].high, own[0].tca_ns))
    assert found[1:] == own[1:]
