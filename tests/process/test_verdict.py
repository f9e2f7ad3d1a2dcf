"""What the verdict looks for is found when it is there: the control of tests that find nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.site import MARK, Site
from tests.process.verdict import left_behind

pytestmark = pytest.mark.process

# It has no argument, directory or file of the pipeline: only shared memory that it inherited.
HOLDS_MEMORY = (
    "import os, sys; os.memfd_create('radar->normalize'); print('holds', flush=True);"
    "sys.stdin.read()"
)
HOLDS_THE_LOCK = (
    "import fcntl, sys; lock = open('state/lock', 'rb'); fcntl.flock(lock, fcntl.LOCK_EX);"
    "print('holds', flush=True); sys.stdin.read()"
)


@pytest.fixture
def ended(tmp_path: Path) -> Site:
    """As a pipeline leaves its directory."""
    site = Site(tmp_path)
    site.state.mkdir()
    (site.state / "lock").touch()
    return site


@pytest.mark.parametrize(
    ("program", "inside", "words"),
    [
        (HOLDS_MEMORY, False, ["/memfd:radar->normalize"]),
        (HOLDS_THE_LOCK, True, ["state/lock", "holds the lock", "the lock cannot be taken"]),
    ],
)
def test_a_process_that_holds_something_is_found(
    program: str, inside: bool, words: list[str], ended: Site
) -> None:
    environment = os.environ if inside else {**os.environ, MARK: str(ended.root)}
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ended.root if inside else "/", env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"holds\n"
        found = "\n".join(left_behind(ended))
        assert all(word in found for word in words), found
        assert str(process.pid) in found
    assert left_behind(ended) == []


def test_a_socket_is_found(ended: Site) -> None:
    (ended.state / "control.sock").touch()
    assert left_behind(ended) == [f"{ended.state / 'control.sock'} is there"]
