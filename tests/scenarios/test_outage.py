"""A broker that does not answer: the source lives on, says so once, misses and repeats nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from operators import intake
from operators.core import watermark
from operators.intake import Intake
from sda_pipeline.errors import Transient
from sda_pipeline.ring.board import UNKNOWN
from tests.scenarios.scripted_broker import Topic, Window
from tests.scenarios.source_stage import Stage, staged

LONG = Window(-10.0, 290.0)


def steady() -> Topic:
    """One observation a second, through all of it."""
    topic = Topic()
    for second in range(-30, 295):
        topic.say(float(second))
    return topic


def told(stage: Stage, *names: str) -> list[str]:
    return [event for _, event, _ in stage.events if event in names]


def test_it_is_told_once_and_the_same_life_goes_on(tmp_path: Path) -> None:
    with staged(tmp_path, {"east": steady()}) as stage:
        stage.silent.append(LONG)
        life = stage.loops["east"]
        stage.run(0.0)
        assert stage.board.get("east.lag") == UNKNOWN, "an unknown lag is no lag of 0"
        assert told(stage, "broker_away", "broker_back") == ["broker_away"]
        stage.run(300.0)
        assert stage.loops["east"] is life
        assert told(stage, "broker_away", "broker_back") == ["broker_away", "broker_back"]
        assert (stage.counts().read, stage.counts().late, stage.counts().missing) == (325, 0, 0)
        stage.standings()


def one_half_comes_later(by_s: float) -> Topic:
    """Two partitions whose producers wait for the broker; those of 1 come back after those of 0."""
    topic = Topic()
    for second in range(-30, -10):
        topic.say(float(second))
        topic.say(float(second), partition=1)
    for second in range(-10, 290, 4):
        topic.say(float(second), arrives_s=290.2)
        topic.say(float(second), partition=1, arrives_s=290.2 + by_s)
    for half in range(40):
        topic.say(290.5 + half / 2)
    return topic


@pytest.mark.parametrize("by_s", [0.0, 2.5, 5.0, 12.0])
@pytest.mark.parametrize("dies", [False, True])
def test_producers_come_back_one_after_the_other(tmp_path: Path, by_s: float, dies: bool) -> None:
    """Librdkafka's wait up to 10 s between two attempts."""
    with staged(tmp_path, {"east": one_half_comes_later(by_s)}) as stage:
        stage.silent.append(LONG)
        stage.run(289.0)
        if dies:
            stage.loops["east"].log.close()
            stage.start("east")
        stage.run(309.2)
        assert (stage.counts().read, stage.counts().late) == (2 * 95 + 38, 0)
        stage.standings()


def test_following_the_others_at_once_would_make_what_they_held_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    monkeypatch.setattr(watermark, "SETTLED_NS", 0)
    with staged(tmp_path, {"east": one_half_comes_later(5.0)}) as stage:
        stage.silent.append(LONG)
        stage.run(309.0)
        assert stage.counts().late > 50


def test_a_commit_that_fails_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staged(tmp_path, {"east": steady()}) as stage:
        calls: list[float] = []

        def refuse(_offsets: object) -> None:
            calls.append(stage.now_s)
            raise Transient("commit", "the coordinator is away")

        monkeypatch.setattr(stage.loops["east"].intake.consumer, "commit", refuse)
        stage.run(-0.5)
        assert len(calls) > 20
        assert stage.counts().read == 30
        assert told(stage, "broker_away", "commit_failed") == ["commit_failed"]


def test_the_last_commit_is_said_again_when_nothing_more_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that observers do not see a lag for ever."""
    topic = Topic()
    topic.say(-30.0)
    with staged(tmp_path, {"east": topic}) as stage:
        calls: list[dict[int, int]] = []

        def refuse_once(offsets: dict[int, int]) -> None:
            calls.append(dict(offsets))
            if len(calls) == 1:
                raise Transient("commit", "the coordinator is away")

        monkeypatch.setattr(stage.loops["east"].intake.consumer, "commit", refuse_once)
        stage.run(-20.0)
        assert calls == [{0: 1}] * 2


def test_an_outage_that_comes_and_goes_is_told_once_a_minute(tmp_path: Path) -> None:
    with staged(tmp_path, {"east": steady()}) as stage:
        stage.silent += [Window(at, at + 2.0) for at in (-20.0, -10.0, 0.0, 10.0, 80.0)]
        stage.run(100.0)
        assert told(stage, "broker_away", "broker_back") == ["broker_away", "broker_back"] * 2
        assert (stage.counts().read, stage.counts().late) == (131, 0)


def breaking_off(stage: Stage, monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """The broker falls silent in the middle of the second half of every ``first``-th batch."""
    consumer = stage.loops["east"].intake.consumer
    consume, calls = consumer.consume, [0]

    def sometimes(most: int, size: int, timeout_s: float) -> object:
        if not timeout_s:
            calls[0] += 1
            if calls[0] % first == 0:
                raise Transient("consume", "it broke off")
        return consume(most, size, timeout_s)

    monkeypatch.setattr(consumer, "consume", sometimes)


def test_what_came_before_it_fell_silent_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staged(tmp_path, {"east": steady()}) as stage:
        breaking_off(stage, monkeypatch, 3)
        stage.run(-0.5)
        assert stage.counts().read == 30
        stage.standings()


def test_without_keeping_it_some_would_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: neither is the batch kept nor every partition sought anew."""

    def careless(self: Intake) -> object:
        batch = self.consumer.consume(100, 1 << 20, 0.05)
        return batch if not batch.values else intake.join(batch, self.consumer.consume(9, 9, 0.0))

    monkeypatch.setattr(Intake, "consume", careless)
    monkeypatch.setattr(Intake, "away", lambda self, _error: self.worker.wait(0.1))
    with staged(tmp_path, {"east": steady()}) as stage:
        breaking_off(stage, monkeypatch, 3)
        stage.run(-0.5)
        assert stage.counts().read < 30
