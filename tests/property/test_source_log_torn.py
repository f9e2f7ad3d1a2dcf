"""Torn tails and damage of the source log at every byte; its content against a plain list."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sda_pipeline.errors import StateCorrupt
from sda_pipeline.log.segments import Record, segment_name
from sda_pipeline.log.source_log import LogStart, SourceLog, read_log
from tests.log_frames import LOG_ID, SOURCE, fill, header, plain

START = LogStart(LOG_ID, 1)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[int]]:
    """A segment of four records (the last embeds a copy of the ones before) and its offsets."""
    directory = tmp_path_factory.mktemp("written")
    path = directory / segment_name(1)
    with SourceLog.open(directory, SOURCE, START) as log:
        ends = [path.stat().st_size]
        for rejects in (b"", b"r" * 30, b""):
            fill(log, 1, rejects=rejects)
            ends.append(path.stat().st_size)
        # A reject may hold any bytes, even a log's own: old positions in it prove nothing.
        fill(log, 1, rejects=path.read_bytes())
        ends.append(path.stat().st_size)
    return path.read_bytes(), ends


def _reopened(directory: Path, data: bytes) -> tuple[list[int], int]:
    """Positions and truncated bytes of a log whose one segment holds ``data``; then appends."""
    path = directory / segment_name(1)
    path.write_bytes(data)
    with SourceLog.open(directory, SOURCE, START) as log:
        positions = [record.header.position for record in log.records(1)]
        torn, size = log.truncated_bytes, path.stat().st_size
        assert size == len(data) - torn
        fill(log, 1)
    with SourceLog.open(directory, SOURCE, START) as log:
        assert log.truncated_bytes == 0
        assert [r.header.position for r in log.records(1)] == [*positions, len(positions) + 1]
    return positions, torn


def test_a_tail_torn_at_every_byte_is_truncated(
    tmp_path: Path, written: tuple[bytes, list[int]]
) -> None:
    data, ends = written
    for cut in range(ends[3] + 1, ends[4]):
        assert _reopened(tmp_path, data[:cut]) == ([1, 2, 3], cut - ends[3])
    assert _reopened(tmp_path, data) == ([1, 2, 3, 4], 0)  # the control


def test_a_tail_of_unwritten_pages_is_truncated(
    tmp_path: Path, written: tuple[bytes, list[int]]
) -> None:
    data, ends = written
    for kept in range(ends[3], ends[4] - 1, 7):  # a file grown, its last blocks never written
        torn = data[:kept] + bytes(ends[4] - kept)
        if torn != data:
            assert _reopened(tmp_path, torn) == ([1, 2, 3], ends[4] - ends[3])


def test_a_flipped_byte_in_the_last_record_is_truncated(
    tmp_path: Path, written: tuple[bytes, list[int]]
) -> None:
    data, ends = written
    for at in range(ends[3], ends[4], 3):
        flipped = bytearray(data)
        flipped[at] ^= 0x10
        assert _reopened(tmp_path, bytes(flipped)) == ([1, 2, 3], ends[4] - ends[3])


def test_a_flipped_byte_in_the_middle_is_refused(
    tmp_path: Path, written: tuple[bytes, list[int]]
) -> None:
    data, ends = written
    path = tmp_path / segment_name(1)
    for at in range(64, ends[3]):
        flipped = bytearray(data)
        flipped[at] ^= 0x10
        path.write_bytes(flipped)
        record = next(i for i in range(3) if at < ends[i + 1])
        where = rf"0001\.log at byte {ends[record]}: .*; move .* aside"
        with pytest.raises(StateCorrupt, match=where):
            SourceLog.open(tmp_path, SOURCE, START)
        assert path.read_bytes() == flipped, "a refused log is left as it is"


def test_a_record_taken_out_of_the_middle_is_refused(
    tmp_path: Path, written: tuple[bytes, list[int]]
) -> None:
    data, ends = written
    (tmp_path / segment_name(1)).write_bytes(data[: ends[1]] + data[ends[2] :])
    with pytest.raises(StateCorrupt, match="position 3 is there instead of 2"):
        SourceLog.open(tmp_path, SOURCE, START)


# --- against a plain list -------------------------------------------------------------------

APPEND = st.tuples(st.just("append"), st.binary(max_size=120), st.binary(max_size=40))
OTHER = st.sampled_from([("sync",), ("reopen",), ("torn",), ("view",)])
DELETE = st.tuples(st.just("delete"), st.integers(0, 30), st.integers(0, 30))


def _check(log: SourceLog, model: list[tuple[int, bytes, bytes]]) -> None:
    """The log is a suffix of the model that holds its last element."""
    assert log.end == len(model)
    kept = model[log.first - 1 :]
    assert [plain(record) for record in log.records(log.first)] == kept
    assert list(log.reject_positions(1)) == [item[0] for item in kept if item[2]]
    last: Record | None = log.last()
    assert (plain(last) if last else None) == (model[-1] if model else None)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(APPEND, APPEND, OTHER, DELETE), max_size=40), st.integers(100, 900))
def test_the_log_is_a_list(operations: list[tuple[object, ...]], segment_bytes: int) -> None:
    directory = Path(tempfile.mkdtemp())
    model: list[tuple[int, bytes, bytes]] = []
    log = SourceLog.open(directory, SOURCE, START, segment_bytes=segment_bytes)
    try:
        for name, *arguments in operations:
            match name, arguments:
                case "append", [bytes(payload), bytes(rejects)]:
                    position = len(model) + 1
                    log.append(header(position, payload), payload, rejects)
                    model.append((position, payload, rejects))
                case "delete", [int(position), int(older_than)]:
                    first = log.first
                    log.delete_below(position, older_than)
                    assert first <= log.first <= max(first, min(position, older_than))
                case "sync", _:
                    log.sync()
                case "view", _:
                    view = read_log(directory)
                    assert [plain(r) for r in view.records(view.first)] == model[view.first - 1 :]
                case "reopen" | "torn", _:
                    log.close()
                    if name == "torn":
                        with max(directory.iterdir()).open("ab") as file:
                            file.write(b"\xff" * 50)
                    log = SourceLog.open(directory, SOURCE, None, segment_bytes=segment_bytes)
                    assert log.truncated_bytes == (50 if name == "torn" else 0)
            _check(log, model)
    finally:
        log.close()
        shutil.rmtree(directory)
