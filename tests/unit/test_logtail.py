"""Reading the ends of operators' logs, whole or cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from sda_pipeline.clock import ManualClock
from supervisor.logtail import TAIL_BYTES_MAX, follow, last_error, tail


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "radar.jsonl"


def test_the_last_error_of_this_life(log: Path) -> None:
    log.write_text('{"event":"failed","error":"old"}\n')
    offset = log.stat().st_size
    assert last_error(log, 0) == "old"
    assert last_error(log, offset) is None
    with log.open("a") as file:
        file.write('{"event":"failed","error":"new"}\n[1]\n{"error": 3}\nno json\n{"cut": ')
    assert last_error(log, offset) == "new"


def test_tail_of_nothing(log: Path) -> None:
    assert tail(log, 5) == []
    log.write_bytes(b"\xff\xfe\n")
    assert tail(log, 0) == []
    assert tail(log, 5) == ["\ufffd\ufffd"]


def test_tail_of_a_long_log_has_whole_lines(log: Path) -> None:
    lines = [f"line {number:07d}" for number in range(TAIL_BYTES_MAX // 10)]
    log.write_text("\n".join(lines) + "\n")
    assert tail(log, 3) == lines[-3:]
    found = tail(log, 10**9)
    assert found == lines[-len(found) :]
    assert 1000 < len(found) < len(lines)


def test_follow_gives_whole_lines_as_they_come(log: Path) -> None:
    log.write_text("one\ntwo\n")

    class WritingClock(ManualClock):
        pieces = ["thr", "ee\nfo", "ur\n"]  # noqa: RUF012

        def sleep(self, seconds: float) -> None:
            with log.open("a") as file:
                file.write(self.pieces.pop(0))

    found = follow(log, 1, WritingClock())
    assert [next(found), next(found), next(found)] == ["two", "three", "four"]
