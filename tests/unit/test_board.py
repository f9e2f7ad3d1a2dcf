"""The board: names, initial values, one writer per word, and clear errors."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from sda_pipeline.errors import SdaError
from sda_pipeline.ring.board import UNKNOWN, Board, board_words, initial_value, positions_of

SOURCES = ("radar", "optical", "isl")
KINDS = {
    "radar": "radar-source", "optical": "optical-source", "isl": "isl-source",
    "normalize": "normalize", "prioritize": "prioritize", "correlator": "correlator",
    "alert-sink": "alert-sink", "subscriber": "subscriber", "dlq-sink": "dlq-sink",
    "replicator": "replicator",
}  # fmt: skip
GLOBAL = "outbox_end sink_pos sub_pos dirty hold epoch snapshot_seq snapshot_at"
PER_SOURCE = "applied log_end lag dlq_done dlq_log log_id watermark ended"
PER_OPERATOR = (
    "heartbeat step step_since in_flight_source in_flight_position in_flight_row events ready"
)
WORDS = board_words(SOURCES, tuple(KINDS))


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(WORDS)
    yield made
    made.close()


def test_only_lag_starts_unknown(board: Board) -> None:
    unknown = {name for name, value in board.snapshot().items() if value == UNKNOWN}
    assert unknown == {"radar.lag", "optical.lag", "isl.lag"}
    assert {board.get(name) for name in WORDS if name not in unknown} == {0}


def test_words_are_those_of_the_contract() -> None:
    assert len(set(WORDS)) == len(WORDS)
    contract = {
        *GLOBAL.split(),
        *(f"{source}.{word}" for source in SOURCES for word in PER_SOURCE.split()),
        *(f"{operator}.{word}" for operator in KINDS for word in PER_OPERATOR.split()),
    }
    assert contract <= set(WORDS)


def test_another_process_side_sees_what_was_written(board: Board) -> None:
    other = Board.attach(board.fd, WORDS)
    for i, name in enumerate(WORDS):
        board.set(name, 2**63 + i)
    assert [other.get(name) for name in WORDS] == [2**63 + i for i in range(len(WORDS))]
    other.set("epoch", np.uint64(7))  # type: ignore[arg-type]
    assert board.get("epoch") == 7
    other.close()
    board.get("epoch")


def test_a_board_grows_by_pages() -> None:
    words = tuple(f"w{i}" for i in range(600))
    board = Board.create(words)
    assert os.fstat(board.fd).st_size == 2 * 4096
    board.set("w599", 5)
    assert board.snapshot()["w599"] == 5
    board.close()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(board.fd)


def test_unknown_names_and_values_get_a_clear_error(board: Board) -> None:
    with pytest.raises(SdaError, match=r"cannot read board word 'radar\.nope': the board has no"):
        board.get("radar.nope")
    with pytest.raises(SdaError, match="cannot write board word 'nope'"):
        board.set("nope", 1)
    for value in (-1, 2**64):
        with pytest.raises(SdaError, match=f"cannot write {value} to board word dirty"):
            board.set("dirty", value)
    assert board.get("dirty") == 0


def test_a_board_made_for_other_words_is_refused(board: Board) -> None:
    for words in (WORDS[:-1], WORDS[::-1], board_words(("radar", "lidar", "isl"), tuple(KINDS))):
        with pytest.raises(SdaError, match="made for other words"):
            Board.attach(board.fd, words)


def test_reset_gives_initial_values_back(board: Board) -> None:
    for name in WORDS:
        board.set(name, 9)
    mine = positions_of("radar", "radar-source", SOURCES)
    board.reset(mine)
    for name in WORDS:
        assert board.get(name) == (initial_value(name) if name in mine else 9)


def test_every_position_has_exactly_one_writer() -> None:
    writers = Counter(
        word for name, kind in KINDS.items() for word in positions_of(name, kind, SOURCES)
    )
    operator_words = {w for w in WORDS if w.rpartition(".")[0] in KINDS} - {
        w for w in board_words(SOURCES, ()) if "." in w
    }
    supervisors = {f"{source}.quarantined" for source in SOURCES}
    assert set(writers) == set(WORDS) - operator_words - supervisors
    assert set(writers.values()) == {1}


def test_it_is_not_inherited_unless_passed(board: Board) -> None:
    assert not os.get_inheritable(board.fd)
