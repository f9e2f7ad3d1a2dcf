"""What a dead operator worked on can be told from its words, at whatever moment it died."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from sda_pipeline.runtime.in_flight import (
    POSITION,
    ROW,
    SOURCE,
    BatchAt,
    Culprit,
    InFlight,
    parse,
    partition_word,
)

U32, U62 = st.integers(0, 2**32 - 1), st.integers(0, 2**62)
BATCHES = st.builds(BatchAt, st.integers(1, 2**64 - 1), U62)
CULPRITS = st.builds(Culprit, st.integers(0, 200), U32, st.integers(0, 2**31 - 2), U62)


class Recorder:
    """A board that remembers what stood on it after every single write."""

    def __init__(self) -> None:
        self.words = {SOURCE: 0, POSITION: 0, ROW: 0}
        self.history: list[dict[str, int]] = []

    def set(self, name: str, value: int) -> None:
        self.words[name.removeprefix("radar.")] = value
        self.history.append(dict(self.words))


def write(in_flight: InFlight, state: BatchAt | Culprit | None) -> None:
    match state:
        case None:
            in_flight.clear()
        case Culprit():
            in_flight.culprit(state)
        case _:
            in_flight.batch(state)


@given(st.lists(st.one_of(st.none(), BATCHES, CULPRITS), max_size=6))
def test_a_kill_between_any_two_writes_leaves_a_whole_state_or_none(
    states: list[BatchAt | Culprit | None],
) -> None:
    board = Recorder()
    in_flight = InFlight(board, "radar")  # type: ignore[arg-type]
    before: BatchAt | Culprit | None = None
    for state in states:
        board.history.clear()
        write(in_flight, state)
        seen = [parse(words) for words in board.history]
        assert set(seen) <= {before, None, state}
        assert seen[-1] == state
        before = state


def test_the_order_of_the_writes_is_what_keeps_states_whole() -> None:
    # The control: with the source word written first, a kill would name a record that never was.
    def first(board: Recorder, state: Culprit) -> None:
        word = partition_word(state.generation, state.partition)
        for name, value in ((SOURCE, word), (POSITION, state.offset), (ROW, state.source + 1)):
            board.set(f"radar.{name}", value)

    broken: Callable[[Recorder, Culprit], None] = first
    board = Recorder()
    broken(board, Culprit(0, 0, 0, 7))
    broken(board, Culprit(0, 0, 1, 9))
    assert Culprit(0, 0, 1, 7) in [parse(words) for words in board.history]


@given(U32, st.integers(0, 2**31 - 2))
def test_a_partition_is_never_nothing(generation: int, partition: int) -> None:
    assert 0 < partition_word(generation, partition) < 2**64
