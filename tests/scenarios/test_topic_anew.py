"""A topic is deleted, with messages unread that were known, and made anew (SPEC 4)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from operators import intake
from sda_pipeline.broker.port import Batch, OffsetOutOfRange
from sda_pipeline.records.generations import follows
from sda_pipeline.runtime import audit_log
from tests.scenarios import source_stage
from tests.scenarios.scripted_broker import ScriptedConsumer, Surroundings, Topic
from tests.scenarios.source_stage import Stage, staged

HANDED_OUT = 6  # of its first life, then it is deleted


class MortalConsumer(ScriptedConsumer):
    """Once so much is handed out and the lag is told, the topic is another one."""

    def __init__(self, topic: Topic, stage: Surroundings) -> None:
        super().__init__(topic, stage)
        self.life, self.means, self.seen = 0, 0, 0

    def generation(self, _partition: int) -> int:
        return self.life

    def seek(self, partition: int, offset: int) -> None:
        super().seek(partition, offset)
        self.means, self.seen = self.life, 0

    def consume(self, max_messages: int, max_bytes: int, timeout_s: float) -> Batch:
        if self.means != self.life:
            end = len(self.topic.partitions[0])
            raise OffsetOutOfRange("topic", 0, self.next[0], 0, end)
        return super().consume(max_messages, max_bytes, timeout_s)

    def lag(self) -> dict[int, int]:
        found = super().lag()
        if self.means == self.life:
            self.seen = self.next[0] + found[0]
        if self.life == 0 and self.next[0] >= HANDED_OUT:
            self.life, self.topic = 1, second_life()
            self._arrivals = {0: [message.arrives_s for message in self.topic.partitions[0]]}
        return found

    def unread(self, _partition: int) -> int:
        return max(0, self.seen - self.next[0])


def topic_of(count: int, first_s: float, arrives_s: float, name: str) -> Topic:
    topic = Topic()
    for number in range(count):
        topic.say(first_s + number, arrives_s=arrives_s, name=f"{name}-{number}")
    return topic


def second_life() -> Topic:
    return topic_of(8, -10.0, 0.0, "second")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(source_stage, "ScriptedConsumer", MortalConsumer)
    monkeypatch.setattr(intake, "BATCH_MESSAGES_MAX", 3)
    with staged(tmp_path, {"east": topic_of(20, -30.0, -10.0, "first")}) as stage:
        stage.run(5.0)
        yield stage


def test_what_was_unread_is_missing_and_told(stage: Stage) -> None:
    counts = stage.counts()
    assert (counts.missing, counts.rows + counts.late) == (20 - HANDED_OUT, HANDED_OUT + 8)
    assert counts.read == 20 + 8
    assert [
        fields["missing"] for _, event, fields in stage.events if event == "offsets_missing"
    ] == [20 - HANDED_OUT]


def test_audit_takes_it_for_what_it_is(stage: Stage) -> None:
    """The offsets do not move by what is missing; nowhere else may a count do that."""
    standings = stage.standings()
    anew = [
        (before, here)
        for before, here in pairwise(standings)
        if before.parts[0].generation != here.parts[0].generation
    ]
    ((before, here),) = anew
    assert follows(here.parts[0].generation, before.parts[0].generation)
    assert here.counts.missing == 20 - HANDED_OUT


def test_audit_would_not_without_the_other_life(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    monkeypatch.setattr(audit_log, "_begun_anew", lambda _before, _here: False)
    with pytest.raises(AssertionError, match="its offsets moved by"):
        stage.standings()
