"""When a finite run is done: two agreeing reads of the board, 100 ms apart."""

from __future__ import annotations

import pytest

from sda_pipeline.ring.board import UNKNOWN
from supervisor.quiescence import APART_NS, Agreement, delivered, ended, watched_words

SOURCES = ("radar", "isl")


def board(**changes: int) -> dict[str, int]:
    words = dict.fromkeys(watched_words(SOURCES), 0)
    words |= {"radar.log_end": 7, "radar.applied": 7, "radar.dlq_done": 7}
    words |= {"outbox_end": 1 << 32 | 5, "sink_pos": 1 << 32 | 5, "sub_pos": 1 << 32 | 5}
    return words | {name.replace("__", "."): value for name, value in changes.items()}


@pytest.mark.parametrize(
    "change",
    [
        {"isl__lag": 1}, {"isl__lag": UNKNOWN}, {"radar__log_end": 8}, {"radar__applied": 6},
        {"radar__dlq_done": 6}, {"dirty": 1}, {"outbox_end": 1 << 32 | 6},
        {"sub_pos": 1 << 32 | 4}, {"outbox_end": 2**63 + 1},
    ],
)  # fmt: skip
def test_one_word_behind_is_not_delivered(change: dict[str, int]) -> None:
    assert delivered(board(), SOURCES)
    assert not delivered(board(**change), SOURCES)


def test_a_sink_that_is_further_than_the_outbox_is_delivered() -> None:
    # A correlator that starts from an empty store knows no outbox entry; sink and subscriber do.
    assert delivered(board(outbox_end=0), SOURCES)


def test_an_epoch_without_an_entry_has_nothing_to_deliver() -> None:
    assert delivered(board(outbox_end=1 << 32, sink_pos=0, sub_pos=0), SOURCES)
    assert not delivered(board(outbox_end=1 << 32 | 1, sink_pos=0, sub_pos=0), SOURCES)


def test_ended_needs_every_source() -> None:
    assert not ended(board(radar__ended=1), SOURCES)
    assert ended(board(radar__ended=1, isl__ended=1), SOURCES)


def test_two_equal_reads_apart_agree() -> None:
    agreement = Agreement(SOURCES)
    assert not agreement.observe(board(), 0)
    assert not agreement.observe(board(), APART_NS - 1)
    assert agreement.observe(board(), APART_NS)


def test_whatever_moves_between_the_reads_starts_anew() -> None:
    agreement, moved = Agreement(SOURCES), board(radar__log_end=8, radar__applied=8)
    moved["radar.dlq_done"] = 8
    assert not agreement.observe(board(), 0)
    assert not agreement.observe(moved, APART_NS)
    assert agreement.observe(moved, 2 * APART_NS)


@pytest.mark.parametrize("between", [None, board(dirty=1)])
def test_an_operator_that_is_away_or_busy_starts_anew(between: dict[str, int] | None) -> None:
    agreement = Agreement(SOURCES)
    assert not agreement.observe(board(), 0)
    assert not agreement.observe(between, APART_NS // 2)
    assert not agreement.observe(board(), APART_NS)
    assert agreement.observe(board(), 2 * APART_NS)
