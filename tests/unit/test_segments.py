"""Segment format: headers, the chain of segments, writing in the face of a full disk."""

from __future__ import annotations

import os
import resource
import struct
import zlib
from pathlib import Path

import pytest

from sda_pipeline.errors import InvalidConfiguration, StateCorrupt
from sda_pipeline.log.segments import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    list_segments,
    parse_segment_header,
    segment_name,
    write_at,
    write_segment,
)

HEADER = SegmentHeader(3, 0xABCDEF, 17, 5, 4096, 1_700_000_000_000_000_000)


def test_header_survives_the_round_trip() -> None:
    data = HEADER.pack()
    assert len(data) == SEGMENT_HEADER_BYTES == 64
    assert parse_segment_header(data, Path(segment_name(17))) == HEADER


def test_name_is_the_first_position_in_20_digits() -> None:
    assert segment_name(17) == "00000000000000000017.log"


@pytest.mark.parametrize("at", range(64))
def test_any_flipped_byte_of_a_header_is_refused(at: int) -> None:
    data = bytearray(HEADER.pack())
    data[at] ^= 0x40
    with pytest.raises(StateCorrupt, match=r"00017\.log at byte [04]: "):
        parse_segment_header(bytes(data), Path(segment_name(17)))


@pytest.mark.parametrize("length", [0, 1, 63])
def test_a_cut_header_is_refused(length: int) -> None:
    with pytest.raises(StateCorrupt, match="cut off"):
        parse_segment_header(HEADER.pack()[:length], Path(segment_name(17)))


def test_a_newer_version_is_refused_with_advice() -> None:
    data = bytearray(HEADER.pack())
    data[4] = 2
    struct.pack_into("<I", data, 60, zlib.crc32(data[:60]))
    with pytest.raises(InvalidConfiguration, match="version 2, this release reads 1; use the rel"):
        parse_segment_header(bytes(data), Path(segment_name(17)))


def test_a_renamed_segment_is_refused() -> None:
    with pytest.raises(StateCorrupt, match="its first position is 17"):
        parse_segment_header(HEADER.pack(), Path(segment_name(18)))


def _chain(directory: Path) -> list[Path]:
    first = write_segment(directory, SegmentHeader(3, 9, 1))
    second = write_segment(directory, SegmentHeader(3, 9, 5, 1, 64))
    third = write_segment(directory, SegmentHeader(3, 9, 8, 5, 64))
    return [first.path, second.path, third.path]


def test_a_whole_chain_is_listed_in_order(tmp_path: Path) -> None:
    paths = _chain(tmp_path)
    assert [segment.path for segment in list_segments(tmp_path)] == paths
    paths[0].unlink()  # the oldest may be gone
    assert [segment.header.first for segment in list_segments(tmp_path)] == [5, 8]


def test_a_missing_segment_is_a_hole(tmp_path: Path) -> None:
    paths = _chain(tmp_path)
    paths[1].unlink()
    with pytest.raises(StateCorrupt, match=r"0008\.log at byte 0: a hole: .*0005\.log"):
        list_segments(tmp_path)


@pytest.mark.parametrize("size", [64 - 1, 64 + 1])
def test_a_finished_segment_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    paths = _chain(tmp_path)
    os.truncate(paths[1], size)
    with pytest.raises(StateCorrupt, match=r"0005\.log at byte 6[34]|cut off after 63 bytes"):
        list_segments(tmp_path)


def test_segments_of_two_logs_are_refused(tmp_path: Path) -> None:
    write_segment(tmp_path, SegmentHeader(3, 9, 1))
    write_segment(tmp_path, SegmentHeader(3, 10, 5, 1, 64))
    with pytest.raises(StateCorrupt, match="another log"):
        list_segments(tmp_path)


def test_a_new_segment_leaves_nothing_else_behind(tmp_path: Path) -> None:
    write_segment(tmp_path, SegmentHeader(3, 9, 1))
    assert [path.name for path in tmp_path.iterdir()] == [segment_name(1)]


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwritev

    def short(fd: int, parts: list[bytes], offset: int) -> int:
        return whole(fd, [b"".join(parts)[:5]], offset)

    monkeypatch.setattr(os, "pwritev", short)
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        assert write_at(fd, [b"abc", b"defg", b"hij"], 2) == 10
        assert os.pread(fd, 20, 0) == b"\0\0abcdefghij"
    finally:
        os.close(fd)


def test_a_disk_that_takes_only_a_part_is_an_error(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_at(fd, [b"x" * 60, b"y" * 60], 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        os.close(fd)
