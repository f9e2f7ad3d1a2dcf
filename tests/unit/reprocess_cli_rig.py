"""``sda-reprocess`` called inside the test's process, on the files of a pipeline that never ran. No
test.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from sda_pipeline.cli.reprocess.reprocess_cli import main
from sda_pipeline.dlq.entry import Entry
from tests.unit.redrive_rig import ENTRIES, write_site


class Ran(NamedTuple):
    """A command that ended."""

    code: int
    out: str
    err: str


Reprocess = Callable[..., Ran]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``site_here``, for modules whose tests all want it."""
    return site_here(tmp_path, monkeypatch)


@pytest.fixture
def reprocess(site: Path, capsys: pytest.CaptureFixture[str]) -> Reprocess:
    """``runner``, for the same."""
    return runner(capsys)


def site_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site with ``ENTRIES`` as the current directory; stdin is no terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return write_site(tmp_path, ENTRIES)


def runner(capsys: pytest.CaptureFixture[str]) -> Reprocess:
    """Runs one command line."""

    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = capsys.readouterr()
        return Ran(int(ended.value.code or 0), said.out, said.err)

    return run


def name(found: Entry) -> str:
    """An entry's name as tables shorten it."""
    return found.dlq_id[:12]
