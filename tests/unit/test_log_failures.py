"""The source log in trouble: full disks, failed syncs, damage, wrong directories."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from sda_pipeline.errors import StateCorrupt, Unreachable
from sda_pipeline.log.segments import segment_name
from sda_pipeline.log.source_log import LogStart, SourceLog
from tests.log_frames import LOG_ID, SOURCE, files, fill, header, plain

START = LogStart(LOG_ID, 1)


def opened(directory: Path, segment_bytes: int = 1 << 20) -> SourceLog:
    return SourceLog.open(directory, SOURCE, START, segment_bytes=segment_bytes)


def test_damage_in_an_older_segment_is_refused_when_read(tmp_path: Path) -> None:
    with opened(tmp_path, 400) as log:
        fill(log, 5)
    path = tmp_path / segment_name(1)
    data = bytearray(path.read_bytes())
    data[64 + 144 + 120] ^= 1  # in the payload of position 2
    path.write_bytes(data)
    with opened(tmp_path, 400) as log:
        assert plain(log.read(1))[0] == 1
        with pytest.raises(StateCorrupt, match=r"0001\.log at byte 208: the CRC of position 2"):
            list(log.records(1))


def test_an_older_segment_that_ends_early_is_refused_when_read(tmp_path: Path) -> None:
    with opened(tmp_path, 400) as log:
        fill(log, 5)
    path = tmp_path / segment_name(1)
    data = bytearray(path.read_bytes())
    data[208:212] = (999).to_bytes(4, "little")  # the length of position 2's record
    path.write_bytes(data)
    with opened(tmp_path, 400) as log, pytest.raises(StateCorrupt, match=r"at byte 208: .*past"):
        log.read(1)


def _failing(code: int) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        fill(log, 2)
        path = tmp_path / segment_name(1)
        before = path.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                fill(log, 1, size=400)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == before
        assert log.end == 2
        fill(log, 1, size=400)
    with opened(tmp_path) as log:
        assert (log.end, log.truncated_bytes) == (3, 0)


def test_a_full_disk_at_a_roll_is_retried_cleanly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, 400) as log:
        fill(log, 2)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", _failing(errno.ENOSPC))
            with pytest.raises(OSError, match="No space"):
                fill(log, 1)
        assert files(tmp_path) == [segment_name(1)]
        fill(log, 1)
        assert [record.header.position for record in log.records(1)] == [1, 2, 3]
        assert len(files(tmp_path)) == 2


def test_after_a_failed_sync_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as log:
        fill(log, 1)
        log.append(header(2, b"x"), b"x", b"")
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", _failing(errno.EIO))
            with pytest.raises(OSError, match="Input/output error"):
                log.sync()
        with pytest.raises(Unreachable, match="a sync of it failed"):
            log.sync()  # the page cache would lie
        with pytest.raises(Unreachable, match="restart the pipeline"):
            log.append(header(3, b"x"), b"x", b"")


def test_one_record_at_most_is_unsynced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    pwritev, fdatasync = os.pwritev, os.fdatasync

    def write(fd: int, parts: list[bytes], offset: int) -> int:
        calls.append("write")
        return pwritev(fd, parts, offset)

    def sync(fd: int) -> None:
        calls.append("sync")
        fdatasync(fd)

    with opened(tmp_path) as log:
        monkeypatch.setattr(os, "pwritev", write)
        monkeypatch.setattr(os, "fdatasync", sync)
        for position in (1, 2, 3):
            log.append(header(position, b"x"), b"x", b"")
    assert calls == ["write", "sync", "write", "sync", "write"]


def test_another_sources_log_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with pytest.raises(StateCorrupt, match="of source 2, not 1"):
        SourceLog.open(tmp_path, 1, START)


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "radar").write_text("")
    with pytest.raises(Unreachable, match="must be a directory"):
        SourceLog.open(tmp_path / "radar", SOURCE, START)
