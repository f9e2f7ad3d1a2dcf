"""Reading the ends of operators' logs, whole or cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sda_pipeline.clock import ManualClock
from sda_pipeline.runtime.worker import write_event
from supervisor.cli import run
from supervisor.events import Event
from supervisor.journal import Journal
from supervisor.logtail import TAIL_BYTES_MAX, follow, last_error, tail
from tests.unit.redrive_rig import T0, write_site


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


def test_the_logs_of_operators_and_supervisor_tell_the_time_alike(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = ManualClock(T0 + 7_000_001)
    site = write_site(tmp_path, [])
    logs = site / "state/logs"
    logs.mkdir()
    write_event(clock, "radar", "ready", {"lag": 7})
    written = capfd.readouterr().err
    (logs / "radar.jsonl").write_text(written + '{"event":"odd"}\nno json\n')
    journal = Journal(logs / "supervisor.jsonl", clock)
    journal.note(Event.READY, operator="radar")
    journal.close()
    told = {}
    for operator in ("radar", "supervisor"):
        assert run(["logs", operator, "--state", str(site / "state"), "-n", "3"]) == 0
        told[operator] = capfd.readouterr().out.splitlines()
    first, *rest = told["radar"]
    assert first.startswith('{"at":"')
    assert json.loads(first)["at"] == json.loads(told["supervisor"][0])["at"]
    assert json.loads(first)["at"] == "2026-11-23T12:00:00.007Z"
    assert json.loads(first)["lag"] == 7
    assert rest == ['{"event":"odd"}', "no json"]
    assert (logs / "radar.jsonl").read_text().startswith(written), "the file stays as it is"
