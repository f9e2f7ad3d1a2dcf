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
