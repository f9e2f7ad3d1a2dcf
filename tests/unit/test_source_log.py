"""The source log as its writer and an audit use it: append, roll, delete, failures, reopening."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from sda_pipeline.errors import StateCorrupt, Unreachable
from sda_pipeline.log.segments import segment_name
from sda_pipeline.log.source_log import LogStart, SourceLog, read_log, set_aside
from tests.log_frames import LOG_ID, SOURCE, files, fill, header, plain

START = LogStart(LOG_ID, 1)
NEVER = 1 << 62


def opened(directory: Path, segment_bytes: int = 1 << 20) -> SourceLog:
    return SourceLog.open(directory, SOURCE, START, segment_bytes=segment_bytes)


def test_an_empty_log_begins_where_it_is_told(tmp_path: Path) -> None:
    directory = tmp_path / "log" / "radar"
    assert not SourceLog.exists(directory)
    with SourceLog.open(directory, SOURCE, LogStart(LOG_ID, 42)) as log:
        assert (log.log_id, log.first, log.end, log.truncated_bytes) == (LOG_ID, 42, 41, 0)
        assert log.last() is None
        assert list(log.records(42)) == []
    assert SourceLog.exists(directory)
    with SourceLog.open(directory, SOURCE, LogStart(7, 1)) as log:  # what is there wins
        assert (log.log_id, log.first) == (LOG_ID, 42)


def test_without_a_start_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateCorrupt, match="holds no segment"):
        SourceLog.open(tmp_path, SOURCE, None)


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        fill(log, 3)
        fill(log, 2, rejects=b"rejected")
        fill(log, 1)
        for reader in (log, read_log(tmp_path)):
            assert (reader.log_id, reader.first, reader.end) == (LOG_ID, 1, 6)
            assert [plain(r)[0] for r in reader.records(1)] == [1, 2, 3, 4, 5, 6]
            assert plain(reader.read(4)) == (4, (4).to_bytes(8, "little") * 5, b"rejected")
            assert list(reader.reject_positions(1)) == [4, 5]
            assert list(reader.reject_positions(5)) == [5]
            last = reader.last()
            assert last is not None
            assert last.header == header(6, bytes(last.payload))
        with pytest.raises(IndexError):
            log.read(7)
        with pytest.raises(IndexError):
            log.read(0)


def test_records_are_found_while_the_log_grows(tmp_path: Path) -> None:
    with opened(tmp_path, 400) as log:
        fill(log, 1)
        reader = log.records(1)
        seen = [next(reader).header.position]
        fill(log, 9)
        seen += [record.header.position for record in reader]
    assert seen == list(range(1, 11))


def test_segments_roll_and_all_of_them_are_read(tmp_path: Path) -> None:
    with opened(tmp_path, 400) as log:  # two records of 144 bytes a segment
        fill(log, 5)
        fill(log, 1, rejects=b"r")
        fill(log, 1)
        expected = [plain(record) for record in log.records(1)]
        size = log.size_bytes
    assert files(tmp_path) == [segment_name(first) for first in (1, 3, 5, 7)]
    assert size == sum(path.stat().st_size for path in tmp_path.iterdir())
    with opened(tmp_path, 400) as log:
        assert [plain(record) for record in log.records(1)] == expected
        assert [plain(record) for record in log.records(4)] == expected[3:]
        assert [plain(log.read(position)) for position in range(1, 8)] == expected
        assert list(log.reject_positions(1)) == [6]
        assert log.size_bytes == size
        fill(log, 1)
        assert files(tmp_path)[-1] == segment_name(7)  # goes on in the last segment


def test_a_record_larger_than_a_segment_has_one_of_its_own(tmp_path: Path) -> None:
    with opened(tmp_path, 300) as log:
        fill(log, 3, size=800)
    assert files(tmp_path) == [segment_name(first) for first in (1, 2, 3)]


def test_a_roll_that_was_killed_before_its_first_record(tmp_path: Path) -> None:
    with opened(tmp_path, 400) as log:
        fill(log, 3)
    os.truncate(tmp_path / segment_name(3), 64)
    with opened(tmp_path, 400) as log:
        assert log.end == 2
        last = log.last()
        assert last is not None
        assert last.header.position == 2
        assert log.delete_below(100, NEVER) == 0  # the newest record always stays
        fill(log, 2)
        assert log.delete_below(100, NEVER) == 1
        assert (log.first, log.end) == (3, 4)


def test_a_half_made_segment_is_swept_away(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        fill(log, 2)
    (tmp_path / "00000000000000000003.tmp").write_bytes(b"SDL1 half a hea")
    with opened(tmp_path) as log:
        assert log.end == 2
    assert files(tmp_path) == [segment_name(1)]


@pytest.mark.parametrize(
    ("position", "older_than", "keep", "left"),
    [
        (1, NEVER, 0, 1),  # nothing lies below
        (4, NEVER, 0, 3),  # positions 1, 2 do; 3 and 4 are in the second segment
        (5, NEVER, 0, 5),
        (100, NEVER, 0, 7),  # never the last segment
        (100, 3, 0, 3),  # the ingest time of record n is n: only 1 and 2 are older than 3
        (100, NEVER, 800, 5),  # the log has 4 segments, 352 + 352 + 352 + 208 bytes
        (100, NEVER, 5000, 1),
    ],
)
def test_deletion_takes_whole_old_segments(
    tmp_path: Path, position: int, older_than: int, keep: int, left: int
) -> None:
    with opened(tmp_path, 400) as log:
        fill(log, 7)
        deleted = log.delete_below(position, older_than, keep)
        assert deleted == (left - 1) // 2
        assert (log.first, log.end) == (left, 7)
        assert [record.header.position for record in log.records(left)] == list(range(left, 8))
    with opened(tmp_path, 400) as log:
        assert (log.first, log.end) == (left, 7)


def test_open_reads_only_the_last_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, 4000) as log:
        fill(log, 200, size=800)
    read = 0
    pread = os.pread

    def counting(fd: int, length: int, offset: int) -> bytes:
        nonlocal read
        data = pread(fd, length, offset)
        read += len(data)
        return data

    monkeypatch.setattr(os, "pread", counting)
    opened(tmp_path, 4000).close()
    assert 0 < read <= 4000


def test_wrong_frames_are_programmer_errors(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        with pytest.raises(AssertionError):
            log.append(header(2, b"x"), b"x", b"")
        with pytest.raises(AssertionError):
            log.append(header(1, b"x", log_id=1), b"x", b"")
        with pytest.raises(AssertionError):
            log.append(header(1, b"x"), b"xy", b"")


def test_a_view_leaves_out_a_record_being_written(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        fill(log, 2)
        path = tmp_path / segment_name(1)
        with path.open("ab") as file:
            file.write(b"\x90\0\0\0half a rec")
        size = path.stat().st_size
        view = read_log(tmp_path)
        assert (view.end, path.stat().st_size) == (2, size)
        assert [record.header.position for record in view.records(1)] == [1, 2]


def test_a_view_beside_a_running_writer_is_always_whole(tmp_path: Path) -> None:
    def write() -> None:
        with opened(tmp_path, 3000) as log:
            for _ in range(60):
                fill(log, 5, size=400)
                log.delete_below(log.end - 20, NEVER)

    writer = threading.Thread(target=write)
    writer.start()
    whole = newest = 0
    while writer.is_alive() or whole == 0:
        view = read_log(tmp_path)
        assert view.end >= newest
        newest = view.end
        try:
            read = [record.header.position for record in view.records(view.first)]
        except Unreachable:  # a segment was deleted since the listing
            continue
        assert read == list(range(view.first, view.end + 1))
        whole += newest > 0
    writer.join()
    assert read_log(tmp_path).end == 300


def test_a_view_of_nothing_is_empty(tmp_path: Path) -> None:
    view = read_log(tmp_path / "missing")
    assert (view.first, view.end, view.last(), view.size_bytes) == (1, 0, None, 0)
    assert list(view.records(1)) == list(view.reject_positions(1)) == []


def test_set_aside_keeps_the_old_log(tmp_path: Path) -> None:
    directory = tmp_path / "radar"
    for number in (1, 2):
        with opened(directory) as log:
            fill(log, number)
        aside = set_aside(directory)
        assert aside == tmp_path / f"radar.aside-{number}"
        assert read_log(aside).end == number
    assert not directory.exists()


def bytes_read() -> int:
    """By this process so far, through any call."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


LARGE = 1 << 16  # of a segment here; a header is read through a buffer of an eighth of that


def start_up_bytes(directory: Path, records: int) -> tuple[int, int, int]:
    """What a start reads of a log of so many records; its segments; its size. Bytes."""
    with opened(directory, LARGE) as log:
        fill(log, records, rejects=bytes(2000))
    before = bytes_read()
    with opened(directory, LARGE) as log:  # what a source does: open, look at its end, go on there
        assert log.last() is not None
        assert list(log.reject_positions(log.end + 1)) == []
        assert [r.header.position for r in log.records(log.end)] == [records]
        return bytes_read() - before, len(files(directory)), log.size_bytes


def test_a_start_reads_only_the_headers_of_what_a_longer_log_has_more(tmp_path: Path) -> None:
    short, few, _ = start_up_bytes(tmp_path / "short", 40)
    long, many, size = start_up_bytes(tmp_path / "long", 2000)
    assert many > 15 * few
    of_headers = (many - few) * LARGE // 8
    assert long - short <= of_headers + LARGE, "the last segments may be filled differently"
    assert size > 5 * (of_headers + LARGE)
