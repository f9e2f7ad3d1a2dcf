"""A disk that fills up or fails under a running pipeline: it pauses, or stops with one line."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.process.flow import PLAYBACK
from tests.process.site import Site
from tests.process.state_rig import (
    SOURCES,
    all_running,
    check,
    crashes,
    ended,
    operator,
    told,
)
from tests.process.waiting import wait_until
from tests.servers.demand import demanded_disk, lacking

pytestmark = pytest.mark.process

Mount = Callable[[Site, str], None]


def test_at_the_reserve_it_pauses_and_goes_on_by_itself(
    site: Site, undisturbed: dict[str, str]
) -> None:
    site.write_topology(limits={"disk_reserve": "16 MiB"})
    with demanded_disk(site.state, "48m"):
        (site.state / "logs").mkdir()
        other = site.state / "logs" / "other"
        other.write_bytes(bytes(36 << 20))
        process = site.start("--end-of-input")
        wait_until(
            lambda: all(told(site, name, "disk_reserve_reached") for name in SOURCES), site.story
        )
        wait_until(
            lambda: all(operator(site, name).get("step") == "PAUSED" for name in SOURCES),
            site.story,
        )
        assert sum(path.stat().st_size for path in site.state.glob("log/*/*")) == 3 * 64
        other.unlink()
        wait_until(lambda: process.poll() is not None, site.story)
        assert process.returncode == 0, site.story()
        assert all(told(site, name, "disk_reserve_back") for name in SOURCES)
        check(site, undisturbed)


def test_on_a_full_disk_it_stops_with_one_line_and_loses_nothing(
    site: Site, undisturbed: dict[str, str]
) -> None:
    site.write_topology(limits={"disk_reserve": "1 KiB"})
    with demanded_disk(site.state, "2500k") as disk:
        code, line = ended(site, site.start("--end-of-input"))
        assert code == 8, line
        assert re.search(r"space|see .*\.jsonl", line), line  # its log may be full as well
        disk.grow("64m")
        site.finish()
        check(site, undisturbed)


def traced(pid: int) -> bool:
    """Whether a process has a tracer; True when it is gone."""
    try:
        return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


@contextmanager
def failing_syncs(pid: int) -> Iterator[None]:
    """Every sync of a process returns EIO, as a dying disk makes it."""
    injection = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", "/dev/null", *injection, "-p", str(pid)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until(
            lambda: tracer.poll() is not None or traced(pid), lambda: "strace does not attach"
        )
        assert tracer.stderr is not None
        if tracer.poll() is not None and (said := tracer.stderr.read()):
            lacking(f"the right to trace a process: {said}")  # else it has died of a sync already
        yield
    finally:
        tracer.kill()
        tracer.communicate()


SYNCS = {
    "radar": "cannot go on as radar: Input/output error; check the disk",
    "dlq-sink": ".jsonl: Input/output error; check the disk, then start again",
    "correlator": "cannot commit the correlator's state: mdb_txn_commit: Input/output error; check",
    "alert-sink": "alerts.sqlite: disk I/O error; check the disk, then start again",
    "subscriber": "subscriber.sqlite: disk I/O error; check the disk, then start again",
}


def parts_of(site: Site) -> list[bytes]:
    """The recording cut in as many pieces as there are stores."""
    lines = (site.root / "traffic.jsonl").read_bytes().splitlines(keepends=True)
    ends = [len(lines) * number // len(SYNCS) for number in range(len(SYNCS) + 1)]
    return [b"".join(lines[begin:end]) for begin, end in pairwise(ends)]


def test_a_sync_that_fails_stops_the_tree(recorded: Site, undisturbed: dict[str, str]) -> None:
    """One disk after the other, each under the next piece of the traffic; nothing is lost of it."""
    if shutil.which("strace") is None:
        lacking("strace")
    recorded.write_topology(**PLAYBACK)
    for (name, words), traffic in zip(SYNCS.items(), parts_of(recorded), strict=True):
        (recorded.root / "traffic.jsonl").write_bytes(traffic)
        process = recorded.start()
        wait_until(lambda: all_running(recorded), recorded.story)
        with failing_syncs(operator(recorded, name)["pid"]):
            recorded.fill()
            code, line = ended(recorded, process)
        assert code == 8, line
        assert words in line
        assert sum(o["operator"] == name for o in told(recorded, "supervisor", "refused")) == 1
    recorded.finish()
    assert crashes(recorded) == []
    check(recorded, undisturbed)
