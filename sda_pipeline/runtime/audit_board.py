"""Audit of the board of a running pipeline: no word may say more than is durable, nor stay behind
what its operator has made durable long since. Not the words that are no positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from sda_pipeline.clock import Clock
from sda_pipeline.runtime.audit_report import Fault

ReadBoard = Callable[[], Mapping[str, int] | None]  # None: nothing runs any more

SETTLE_S = 5.0  # longest wait for a word that is behind; a living operator writes it at once
LOOK_EVERY_S = 0.1
BEATS = 2  # an operator that has beaten so often since has passed the place where it writes words


class Truth(NamedTuple):
    """What a word's operator has made durable, read after the board was read first."""

    operator: str  # the one writer of the word
    durable: int
    exact: bool = True  # False: the word may lawfully be below it


def check_board(
    first: Mapping[str, int],
    truths: Mapping[str, Truth],
    read: ReadBoard,
    clock: Clock,
    fault: Fault,
) -> None:
    """``first`` is the board as it was before the files were read."""
    for word, truth in truths.items():
        if first[word] > truth.durable:
            fault(f"board: {word} says {first[word]:#x}, its store {truth.durable:#x}")
    behind = {w for w, t in truths.items() if t.exact and first[w] < t.durable}
    beats = dict.fromkeys({truths[word].operator for word in behind}, 0)
    last: Mapping[str, int] = first
    for _ in range(round(SETTLE_S / LOOK_EVERY_S)):
        now = read()
        if now is None:
            return
        behind = {word for word in behind if now[word] < truths[word].durable}
        for operator in beats:
            beat = f"{operator}.heartbeat"
            beats[operator] += now[beat] != last[beat] and bool(now[f"{operator}.ready"])
        last = now
        for word in sorted(behind):
            truth = truths[word]
            if beats[truth.operator] > BEATS:
                fault(f"board: {word} says {now[word]:#x}, its store {truth.durable:#x}")
        behind = {word for word in behind if beats[truths[word].operator] <= BEATS}
        if not behind:
            return
        clock.sleep(LOOK_EVERY_S)
