"""``sda-reprocess`` as a process of its own: on a real terminal, and interrupted."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sda_pipeline.cli.reprocess import reprocess_cli, reprocess_commands
from sda_pipeline.dlq.reprocess_ledger import ReprocessLedger, read_sendings
from tests.process.waiting import wait_until
from tests.unit.redrive_rig import ENTRIES, write_site

COMMAND = [sys.executable, "-m", "sda_pipeline.cli.reprocess.reprocess_cli"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return write_site(tmp_path, ENTRIES)


def test_on_a_terminal_there_is_a_progress_bar(site: Path) -> None:
    """A real terminal: the question and the bar are on stderr, stdout is the table alone."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "run"], stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, cwd=site,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.write(ours, b"y\n")
    out, _ = process.communicate(timeout=60)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # the terminal has no other end any more
        while more := os.read(ours, 4096):
            said += more
    os.close(ours)
    assert process.returncode == 0
    assert out.rstrip().endswith(b"sent 4 records")
    assert b"re-injecting" in said
    assert b"100%" in said
    assert b"\x1b" not in out


def without_reader(site: Path, *arguments: str, stdin: int = subprocess.DEVNULL) -> tuple[int, str]:
    """Exit code and stderr of a command whose stdout nobody reads any more."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=site,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    return process.wait(60), said


def test_a_reader_that_goes_away_stops_no_run(site: Path) -> None:
    code, said = without_reader(site, "run", "--yes")
    assert code == 0
    assert said == (
        "warning: whoever read the output went away; sending all the same\nsent 4 records\n"
    )
    assert [bool(s.done_ns) for s in read_sendings(site / "state")] == [True] * 4


def test_not_even_when_stderr_had_the_same_reader(site: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", "--yes"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, cwd=site,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 0
    assert [bool(s.done_ns) for s in read_sendings(site / "state")] == [True] * 4


def test_without_a_reader_nobody_is_asked_and_it_does_not_look_like_success(site: Path) -> None:
    ours, theirs = pty.openpty()
    code, said = without_reader(site, "run", stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert code == 1
    assert said.startswith("cannot re-inject: whoever reads its output went away")
    assert said.count("\n") == 1
    assert read_sendings(site / "state") == []


@pytest.mark.parametrize("arguments", [["run", "--dry-run"], ["list"], ["--help"], ["ledger"]])
def test_a_look_ends_quietly_when_its_reader_has_seen_enough(
    arguments: list[str], site: Path
) -> None:
    code, said = without_reader(site, *arguments)
    assert (code, said.replace("8 of 8 entries\n", "")) == (0, "")


def test_an_exit_code_is_never_turned_into_success(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(*_: object, **__: object) -> None:
        raise SystemExit(7)

    monkeypatch.chdir(site)
    monkeypatch.setattr(reprocess_commands, "list_entries", leave)
    with pytest.raises(SystemExit) as ended:
        reprocess_cli.main(["list"])
    assert ended.value.code == 7


def test_ctrl_c_says_how_far_it_came(site: Path) -> None:
    # A shell gives what it runs in the background no Ctrl-C; this one takes it in any case.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from sda_pipeline.cli.reprocess.reprocess_cli import main; "
        "main(['run', '--yes', '--rate', '0.5'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=site, stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(lambda: any(s.done_ns for s in read_sendings(site / "state")), str)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.fullmatch(
        r"cannot finish: interrupted; [123] of 4 were sent .*; run it again to go on\n", err
    )
    with ReprocessLedger(site / "state") as ledger:  # its lock went with it
        assert any(sending.done_ns for sending in ledger.sendings())
