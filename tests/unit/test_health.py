"""Heartbeat judgement, with times in place of clocks."""

from __future__ import annotations

import pytest

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.topology import Supervision
from sda_pipeline.vocabulary import Step
from supervisor.health import Finding, Verdict, Watch, age_ns, judge

PATIENCE = Supervision()


@pytest.mark.parametrize(
    ("step", "beaten", "seconds", "verdict"),
    [
        (Step.COMMIT, True, 4.9, Verdict.FINE),
        (Step.COMMIT, True, 5.0, Verdict.SLOW),
        (Step.COMMIT, True, 59.9, Verdict.SLOW),
        (Step.COMMIT, True, 60.0, Verdict.HUNG),
        (Step.RECOVER, True, 60.0, Verdict.SLOW),
        (Step.RECOVER, True, 299.9, Verdict.SLOW),
        (Step.RECOVER, True, 300.0, Verdict.HUNG),
        (Step.START, False, 60.0, Verdict.SLOW),  # still importing, on a busy machine
        (Step.START, False, 300.0, Verdict.HUNG),
    ],
)
def test_limits(step: Step, beaten: bool, seconds: float, verdict: Verdict) -> None:
    assert judge(step, beaten, round(seconds * SECOND_NS), PATIENCE) is verdict


def test_birth_is_a_sign_of_life() -> None:
    assert age_ns(heartbeat=0, spawned=70, now=100) == 30
    assert age_ns(heartbeat=90, spawned=70, now=100) == 10
    assert age_ns(heartbeat=101, spawned=70, now=100) == 0  # written after the clock was read


class Board(dict[str, int]):
    def get(self, name: str, default: int = 0) -> int:
        return super().get(name, default)


def test_a_silence_is_told_once_and_a_hang_until_it_ends() -> None:
    board, watch = Board({"a.heartbeat": SECOND_NS, "a.step": Step.COMMIT}), Watch(PATIENCE)

    def look(second: float) -> list[Finding]:
        return list(watch.look(board, {"a": 0}, round(second * SECOND_NS)))

    assert look(2) == []
    (told,) = look(7)
    assert (told.name, told.step, told.verdict) == ("a", "COMMIT", Verdict.SLOW)
    assert look(8) == []
    board["a.heartbeat"] = 9 * SECOND_NS
    assert look(10) == []
    assert [finding.verdict for finding in look(20)] == [Verdict.SLOW]
    assert [finding.verdict for finding in look(70)] == [Verdict.HUNG]
    assert [finding.verdict for finding in look(71)] == [Verdict.HUNG]


def test_an_unknown_step_has_a_number() -> None:
    board = Board({"a.heartbeat": 1, "a.step": 77})
    (finding,) = Watch(PATIENCE).look(board, {"a": 0}, 6 * SECOND_NS)
    assert finding.step == "77"
