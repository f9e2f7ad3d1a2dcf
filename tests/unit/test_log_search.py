"""The bounded search of a log finds exactly what a search of the whole log would."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.core.batch import Source, build_frame
from operators.core.watermark import EventClock
from sda_pipeline.limits import PANE_NS, SECOND_NS, TIME_END_NS
from sda_pipeline.log.log_search import Key, Lateness, Wanted, find, last_frame
from sda_pipeline.log.log_view import LogView, read_log
from sda_pipeline.log.source_log import LogStart, SourceLog
from sda_pipeline.records.frames import KIND_ROWS, Counts, Part
from sda_pipeline.records.rows import ROW, Rows

MAX, ALLOWED = 10 * SECOND_NS, 5 * SECOND_NS
SOURCE = Source(0, 7, 1, never_shed=False)
T0 = 1_000_000 * SECOND_NS


def rows_of(batch: list[tuple[int, int, int]]) -> Rows:
    """(partition, seconds after T0, id and object) of each."""
    rows = np.zeros(len(batch), ROW)
    for row, (partition, seconds, number) in zip(rows, batch, strict=True):
        row["partition"], row["t"], row["sat"] = partition, T0 + seconds * SECOND_NS, number
        row["id"] = (number, number % 3)  # halves that are shared by different observations
    return rows


def write(directory: Path, batches: list[list[tuple[int, int, int]]]) -> Rows:
    """A log of these batches as a source would write it; returns every row it took."""
    clock = EventClock(MAX, ALLOWED, {0: 0, 1: 0})
    taken = []
    with SourceLog.open(directory, 0, LogStart(7, 1), segment_bytes=4096) as log:
        for batch in batches:
            rows = rows_of(batch)
            rows = rows[~clock.judge(rows["partition"], rows["t"])]
            parts = tuple(Part(p, 0, 0, w) for p, w in sorted(clock.watermarks.items()))
            built = build_frame(
                SOURCE, KIND_ROWS, log.end + 1, clock.source_watermark(), 0, parts, Counts(), rows
            )
            log.append(built.header, built.payload, b"")
            log.sync()
            taken.append(rows)
    return np.concatenate(taken) if taken else np.zeros(0, ROW)


def wanted(rows: Rows) -> Wanted:
    return Wanted(rows["sat"].astype(np.int64), rows["t"], rows["id"])


BATCHES = st.lists(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 400), st.integers(0, 12)), max_size=6
    ),
    max_size=12,
)  # fmt: skip
ASKED = st.lists(
    st.tuples(st.just(0), st.integers(0, 400), st.integers(0, 12)), min_size=1, max_size=8
)


@settings(max_examples=60, deadline=None)
@given(BATCHES, ASKED, st.booleans())
def test_as_the_whole_log_says(
    batches: list[list[tuple[int, int, int]]], asked: list[tuple[int, int, int]], ascending: bool
) -> None:
    if ascending:  # so that watermarks climb and both bounds cut something off
        batches = [[(p, 40 * k + t % 40, n) for p, t, n in b] for k, b in enumerate(batches)]
    with tempfile.TemporaryDirectory() as root:
        taken = write(Path(root) / "log", batches)
        view = read_log(Path(root) / "log")
        question = wanted(np.concatenate([rows_of(asked), taken[::3]]))
        whole = set(wanted(taken).names())
        expected = {key for key in question.names() if key in whole}
        assert find(view, question, Lateness(MAX, ALLOWED)) == expected


def test_only_the_records_of_the_wanted_times_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [[(0, 40 * k + s, k), (1, 40 * k + s, k)] for k in range(200) for s in (0, 20)]
    write(tmp_path / "log", batches)
    view = read_log(tmp_path / "log")
    read: list[int] = []
    records, one = LogView.records, LogView.read

    def counted(self: LogView, first: int) -> object:
        for record in records(self, first):
            read.append(record.header.position)
            yield record

    def single(self: LogView, position: int) -> object:
        read.append(position)
        return one(self, position)

    monkeypatch.setattr(LogView, "records", counted)
    monkeypatch.setattr(LogView, "read", single)
    pane = (T0 + 4000 * SECOND_NS) // PANE_NS
    question = wanted(rows_of([(0, 4000, 100), (0, 4000, 101)]))
    found: set[Key] = find(view, question, Lateness(MAX, ALLOWED))
    assert found == {(100, pane, 100, 1)}
    assert len(read) < 40, "of 400"


class Counted(np.ndarray):
    """An array that notes which of numpy's functions were called with it."""

    calls: ClassVar[list[str]] = []

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        self.calls.append(func.__name__)
        return super().__array_function__(func, types, args, kwargs)


def test_what_is_wanted_is_prepared_once_however_many_records(tmp_path: Path) -> None:
    """Ten thousand entries against nine thousand records: sorting them anew each time took 6 s."""
    calls = []
    for records in (10, 40):
        directory = tmp_path / str(records)
        taken = write(directory, [[(0, k, k), (1, k, 100 + k)] for k in range(records)])
        question = wanted(taken)
        Counted.calls.clear()
        watched = question._replace(ids=question.ids.view(Counted))
        assert len(find(read_log(directory), watched, Lateness(MAX, ALLOWED))) == 2 * records
        calls.append(len(Counted.calls))
    assert calls[0] == calls[1] > 0, "no more calls for four times as many records"


def test_empty_and_missing_logs_hold_nothing(tmp_path: Path) -> None:
    question, lateness = wanted(rows_of([(0, 1, 1)])), Lateness(MAX, ALLOWED)
    assert find(read_log(tmp_path / "none"), question, lateness) == set()
    write(tmp_path / "log", [])
    view = read_log(tmp_path / "log")
    assert find(view, question, lateness) == set()
    assert last_frame(view) is None
    write(tmp_path / "other", [[(0, 1, 1)]])
    assert find(read_log(tmp_path / "other"), wanted(rows_of([])), lateness) == set()
    last = last_frame(read_log(tmp_path / "other"))
    assert last is not None
    assert last.header.watermark < TIME_END_NS
