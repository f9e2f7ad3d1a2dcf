"""Partitions that are added while a source runs (DESIGN 8, SPEC 4)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from operators import source
from operators.core import watermark
from operators.core.watermark import EventClock
from sda_pipeline.limits import SECOND_NS
from tests.scenarios.scripted_broker import Topic, wall
from tests.scenarios.source_stage import ALLOWED_S, MAX_LATENESS_S, Stage, staged
from tests.scenarios.test_idle_and_outage import flowing, say_often


def growing() -> Topic:
    """A second partition appears and flows."""
    topic = flowing(-30.0, 20.0)
    topic.appears_s[1] = -20.0
    say_often(topic, -20.0, 20.0, partition=1)
    return topic


def source_marks(stage: Stage) -> list[int]:
    """The source's watermark after each record."""
    return [s.header.watermark for s in stage.standings() if s.header]


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source looks for new partitions every half minute only."""
    monkeypatch.setattr(source, "WATCH_EVERY_NS", 30 * SECOND_NS)


def test_a_new_partition_is_seen_before_anything_in_it_is_late(tmp_path: Path) -> None:
    with staged(tmp_path, {"east": growing()}) as stage:
        stage.run(20.0)
        assert stage.counts().late == 0
        assert stage.counts().read == 50 + 40


def test_a_new_partition_begins_at_the_sources_watermark(tmp_path: Path, seldom: None) -> None:
    with staged(tmp_path, {"east": growing()}) as stage:
        stage.run(20.0)
        assert (np.diff(source_marks(stage)) >= 0).all(), "it never goes back"
        standings = stage.standings()
        first = next(at for at, standing in enumerate(standings) if 1 in standing.parts)
        taken_up_s = (standings[first - 1].parts[0].watermark - wall(0.0)) / 1e9
        too_old = [at_s for at_s in range(-20, 20) if at_s < taken_up_s - ALLOWED_S]
        assert stage.counts().late == len(too_old) > 5
        assert stage.counts().read == 50 + 40
        assert stage.watermark_s() == pytest.approx(19.0 - MAX_LATENESS_S)


def test_beginning_anew_would_accept_what_comes_too_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seldom: None
) -> None:
    """The control."""
    monkeypatch.setattr(
        EventClock, "add", lambda self, p: self.watermarks.setdefault(p, watermark.NONE)
    )
    with staged(tmp_path, {"east": growing()}) as stage:
        stage.run(20.0)
        assert stage.counts().late == 0
        with pytest.raises(AssertionError, match="a row of partition 1 that is late"):
            stage.standings()  # panes it belongs to may be closed


def test_one_that_was_not_seen_for_a_while_goes_on_where_the_log_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever position the client gives it meanwhile."""
    with staged(tmp_path, {"east": growing()}) as stage:
        stage.run(0.0)
        consumer = stage.loops["east"].intake.consumer
        partitions = consumer.partitions

        def without_the_new_one() -> tuple[int, ...]:
            found = tuple(p for p in partitions() if p != 1)
            consumer.next.pop(1, None)  # type: ignore[attr-defined]
            return found

        with monkeypatch.context() as hidden:
            hidden.setattr(consumer, "partitions", without_the_new_one)
            stage.run(3.0)
        stage.run(20.0)
        assert (stage.counts().read, stage.counts().late) == (50 + 40, 0)
        stage.standings()
