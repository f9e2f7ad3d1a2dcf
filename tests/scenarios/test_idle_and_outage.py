"""Idleness moves event time on; nothing else that keeps a source quiet does (DESIGN 8).

The real source loop on a clock moved by hand, see source_stage.py: minutes take milliseconds. Each
rule has a control that breaks it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from operators.core import watermark
from operators.core.watermark import EventClock, IdleTracker
from operators.intake import AWAY_WAIT_MAX_S
from sda_pipeline.records.frames import KIND_IDLE
from sda_pipeline.settings import Physics
from sda_pipeline.vocabulary import ErrorKind
from tests.scenarios.scripted_broker import BEGIN_S, Topic, Window
from tests.scenarios.source_stage import ALLOWED_S, IDLE_AFTER_S, MAX_LATENESS_S, Stage, staged

CLOSES_S = 0.204  # the end of the encounter's pane
FINAL_S = CLOSES_S + ALLOWED_S  # a watermark here makes the alert final
MARKED_WITHIN_S = 1.2  # markers come once a second
LONG = Window(-10.0, 290.0)  # something is away for five minutes


def flowing(first_s: float, last_s: float, *, partition: int = 0, every_s: float = 1.0) -> Topic:
    """Observations of the bystander, which only move event time."""
    topic = Topic()
    say_often(topic, first_s, last_s, partition=partition, every_s=every_s)
    return topic


def say_often(
    topic: Topic, first_s: float, last_s: float, *, partition: int = 0, every_s: float = 1.0,
    arrives_s: float | None = None,
) -> None:  # fmt: skip
    for at_s in np.arange(first_s, last_s, every_s).tolist():
        topic.say(at_s, partition=partition, arrives_s=arrives_s)


def pair(last_s: float = 30.0) -> Topic:
    """Both objects of the encounter observed, then the bystander until the end."""
    topic = Topic()
    topic.say(-30.0, "cosmos catalogued 30")
    topic.say(-29.0, "iridium catalogued 30")
    say_often(topic, -28.0, last_s)
    return topic


# --- a quiet source ---------------------------------------------------------------------------


def test_alerts_become_final_beside_a_source_that_has_fallen_quiet(tmp_path: Path) -> None:
    with staged(tmp_path, {"east": pair(), "west": flowing(-30.0, -10.0)}) as stage:
        stage.run(FINAL_S + MAX_LATENESS_S - 0.1)
        assert stage.final_at == {}
        stage.run(20.0)
        (at_s,) = stage.final_at.values()
        assert FINAL_S + MAX_LATENESS_S <= at_s < FINAL_S + MAX_LATENESS_S + 2 * MARKED_WITHIN_S
        marks = [s for s in stage.standings("west") if s.header and s.header.kind == KIND_IDLE]
        assert len(marks) > 10
        assert stage.counts("west").late == 0


def test_alerts_become_final_beside_a_source_that_never_spoke(tmp_path: Path) -> None:
    with staged(tmp_path, {"east": pair(), "west": Topic()}) as stage:
        stage.run(BEGIN_S + IDLE_AFTER_S - 0.1)
        assert stage.standings("west") == []
        stage.run(20.0)
        assert len(stage.final_at) == 1
        (said,) = [fields for name, event, fields in stage.events if "history" in event]
        assert said == {"partitions": [0]}
        first = stage.standings("west")[0].header
        assert first is not None
        assert first.watermark == first.ingest - round(MAX_LATENESS_S * 1e9), "the wall clock's"


def test_with_idleness_off_it_waits_for_the_quiet_source(tmp_path: Path) -> None:
    """The control."""
    topics = {"east": pair(), "west": flowing(-30.0, -10.0)}
    with staged(tmp_path, topics, idle_after_s=None) as stage:
        stage.run(20.0)
        assert stage.final_at == {}
        assert stage.watermark_s("west") == pytest.approx(-12.0)


def partitioned() -> Topic:
    """Partition 0 flows faster than anybody could fall idle in between; 1 has fallen silent."""
    topic = flowing(-30.0, -28.0, partition=1)
    say_often(topic, -30.0, -8.0, every_s=0.04)
    return topic


def test_a_quiet_partition_follows_the_others(tmp_path: Path) -> None:
    with staged(tmp_path, {"east": partitioned()}) as stage:
        stage.run(-28.0)
        assert stage.watermark_s(partition=1) == pytest.approx(-29.0 - MAX_LATENESS_S)
        stage.run(-8.1)
        behind_s = stage.watermark_s(partition=0) - stage.watermark_s(partition=1)
        assert 0.0 <= behind_s < MARKED_WITHIN_S
        assert stage.watermark_s() > -8.1 - MAX_LATENESS_S - MARKED_WITHIN_S
        assert stage.counts().late == 0


def test_looking_only_when_nothing_came_would_hold_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: consume always finds something on partition 0."""
    observe = IdleTracker.observe

    def only_at_rest(self: IdleTracker, now: int, wall: int, lag: dict[int, int], clock: EventClock
                     ) -> dict[int, int]:  # fmt: skip
        return {} if 0 not in self._since and 1 in clock.watermarks else observe(
            self, now, wall, lag, clock)  # fmt: skip

    monkeypatch.setattr(IdleTracker, "observe", only_at_rest)
    with staged(tmp_path, {"east": partitioned()}) as stage:
        stage.run(-8.1)
        assert stage.watermark_s() == pytest.approx(-29.0 - MAX_LATENESS_S)


def test_time_counts_from_when_the_last_partition_fell_idle(tmp_path: Path) -> None:
    """Event time may run slower than the clock: what was idle for long must not run ahead."""
    topic = flowing(-30.0, -29.0, partition=1)
    for step in range(40):  # a tenth of the clock's pace
        topic.say(-30.0 + step * 0.05, arrives_s=-30.0 + step * 0.5)
    topic.say(-28.0, partition=1, arrives_s=-7.0)
    with staged(tmp_path, {"east": topic}) as stage:
        stage.run(-6.0)
        assert stage.counts().late == 0
        assert stage.watermark_s(partition=1) < -25.0


# --- not idleness -----------------------------------------------------------------------------


def away(stage: Stage) -> None:
    stage.away.append(LONG)


def refusing(stage: Stage) -> None:
    stage.refusing.append(LONG)


def jammed(stage: Stage) -> None:
    stage.jammed.append(LONG)


def stopped(stage: Stage) -> None:
    stage.stops.append(LONG)


def silent(stage: Stage) -> None:
    stage.silent.append(LONG)


PAUSES = {
    "the broker hangs": away,
    "the broker refuses, the source restarts": refusing,
    "the broker is silent, the source asks on": silent,
    "nobody reads the ring": jammed,
    "the source is stopped and continued": stopped,
}
AFTER_S = {"there at once": -0.01, "there a little later": 0.3}


def backlog(after_s: float) -> Topic:
    """Flows until the pause; what was observed meanwhile arrives after it."""
    topic = flowing(-30.0, LONG.begin_s)
    say_often(topic, LONG.begin_s, LONG.end_s, every_s=4.0, arrives_s=LONG.end_s + after_s)
    return topic


@pytest.fixture
def confirmation_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the rule: idleness goes on whatever happens between two answers of the broker."""
    monkeypatch.setattr(watermark, "CONFIRM_WITHIN_NS", 0)
    observe = IdleTracker.observe

    def trusting(self: IdleTracker, now: int, wall: int, lag: dict[int, int], clock: EventClock
                 ) -> dict[int, int]:  # fmt: skip
        self._confirmed = now
        return observe(self, now, wall, lag, clock)

    monkeypatch.setattr(IdleTracker, "observe", trusting)
    monkeypatch.setattr(IdleTracker, "busy", lambda _: None)


def late_after(pause: Callable[[Stage], None], root: Path, after_s: float) -> int:
    """How much of a backlog is late."""
    with staged(root, {"east": backlog(after_s)}) as stage:
        pause(stage)
        stage.run(LONG.end_s + 5.0)
        assert stage.counts().read == len(stage.topics["east"].partitions[0])
        assert stage.counts().residue() == 0
        stage.standings()
        return stage.counts().late


@pytest.mark.parametrize("when", AFTER_S)
@pytest.mark.parametrize("name", PAUSES)
def test_what_was_held_up_is_not_late(name: str, when: str, tmp_path: Path) -> None:
    assert late_after(PAUSES[name], tmp_path, AFTER_S[when]) == 0


@pytest.mark.parametrize("name", [name for name in PAUSES if "restart" not in name])
def test_it_would_be_late_if_idleness_needed_no_confirmation(
    name: str, tmp_path: Path, confirmation_ignored: None
) -> None:
    """The control. A source that restarted remembers no idleness; one that asks on looks again
    within ``AWAY_WAIT_MAX_S``.
    """
    assert late_after(PAUSES[name], tmp_path, AWAY_WAIT_MAX_S + 0.2) > 50


# --- a clock that is ahead --------------------------------------------------------------------


def with_one_clock_ahead(by_s: float) -> Topic:
    """Every third observation is of a sensor whose clock is ahead; the measurement is good."""
    topic = Topic()
    for at_s in range(-30, 0):
        topic.say(float(at_s))
        topic.say(at_s + 0.5)
        topic.say(at_s + 0.6 + by_s, arrives_s=at_s + 0.6)
    return topic


def test_a_clock_59_s_ahead_harms_only_its_own(tmp_path: Path) -> None:
    with staged(tmp_path, {"east": with_one_clock_ahead(59.0)}) as stage:
        stage.run(0.0)
        counts = stage.counts()
        assert (counts.read, counts.rows, counts.rejected, counts.late) == (90, 60, 30, 0)
        assert stage.watermark_s() == pytest.approx(-0.5 - MAX_LATENESS_S)
        rejects = stage.rejects()
        assert {reject.offset % 3 for reject in rejects} == {2}
        assert {reject.kind for reject in rejects} == {ErrorKind.VALIDATION_FAILED}
        assert all("clock_ahead_max 2 s" in reject.message for reject in rejects)


def test_a_clock_within_2_s_moves_the_watermark_by_no_more(tmp_path: Path) -> None:
    with staged(tmp_path, {"east": with_one_clock_ahead(1.9)}) as stage:
        stage.run(0.0)
        counts = stage.counts()
        assert (counts.read, counts.rows, counts.rejected, counts.late) == (90, 90, 0, 0)
        assert stage.watermark_s() == pytest.approx(-0.4 + 1.9 - MAX_LATENESS_S)


def test_without_the_limit_it_would_harm_all(tmp_path: Path) -> None:
    """The control."""
    physics = Physics(watch_km=5.0, clock_ahead_max_s=120.0)
    with staged(tmp_path, {"east": with_one_clock_ahead(59.0)}, physics=physics) as stage:
        stage.run(0.0)
        assert stage.counts().late > 40
