"""A broker that does not answer: the source lives on, says so once, misses and repeats nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from operators import intake
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
