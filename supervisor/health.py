"""Is an operator fine, slow, or hung? Judged from its heartbeat and the step it carries. Pure.

An operator beats at every step of its loop and while it waits, so the age of its last beat is the
time it has spent in one step without progress.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import NamedTuple, Protocol

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.topology import Supervision
from sda_pipeline.vocabulary import Step


class Verdict(Enum):
    """What a heartbeat says."""

    FINE = "fine"
    SLOW = "slow"  # worth an event
    HUNG = "hung"  # kill it; the restart repairs


def age_ns(heartbeat: int, spawned: int, now: int) -> int:
    """Time since the last sign of life; birth is one. All monotonic ns."""
    return max(0, now - max(heartbeat, spawned))


def judge(step: int, beaten: bool, silent_ns: int, patience: Supervision) -> Verdict:
    """The verdict on an operator silent for ``silent_ns`` in ``step``; ``beaten``: it ever beat."""
    if not beaten:
        limit_s = patience.ready_within_s
    elif step == Step.RECOVER:
        limit_s = patience.recovery_kill_s
    else:
        limit_s = patience.heartbeat_kill_s
    if silent_ns >= limit_s * SECOND_NS:
        return Verdict.HUNG
    return Verdict.SLOW if silent_ns >= patience.heartbeat_alert_s * SECOND_NS else Verdict.FINE


class Words(Protocol):
    """The board, read only."""

    def get(self, name: str) -> int:
        """The value of a word."""


class Finding(NamedTuple):
    """An operator that is not fine: the name of its step and how long it has been silent."""

    name: str
    step: str
    silent_ns: int
    verdict: Verdict


class Watch:
    """Looks at every living operator; tells of each silence once, and of each hang every time."""

    def __init__(self, patience: Supervision) -> None:
        self._patience = patience
        self._told: dict[str, int] = {}  # the heartbeat whose silence was told

    def look(self, board: Words, spawned: Mapping[str, int], now: int) -> Iterator[Finding]:
        """What is wrong; ``spawned`` has the birth (monotonic ns) of each living operator."""
        for name, born in spawned.items():
            heartbeat, step = board.get(f"{name}.heartbeat"), board.get(f"{name}.step")
            silent = age_ns(heartbeat, born, now)
            verdict = judge(step, heartbeat > 0, silent, self._patience)
            beat = max(heartbeat, born)
            if verdict is Verdict.HUNG or (
                verdict is Verdict.SLOW and self._told.get(name) != beat
            ):
                self._told[name] = beat
                yield Finding(name, step_name(step), silent, verdict)


def step_name(word: int) -> str:
    """The name of a step word; its number when it is none of ours."""
    try:
        return Step(word).name
    except ValueError:
        return str(word)
