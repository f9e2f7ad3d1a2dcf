"""``sda-reprocess migrate`` killed between every two of its steps: each file stays old or new, the
marks stay right, and the pipeline goes on with them.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from sda_pipeline.dlq.entry import SCHEMA_VERSION, Entry
from sda_pipeline.dlq.migration import look
from sda_pipeline.dlq.reading import jsonl_files, read_marks
from sda_pipeline.vocabulary import FAILPOINTS
from tests.process import verdict
from tests.process.flow import PLAYBACK
from tests.process.forgery import Files
from tests.process.reprocess_rig import Live, counts, in_dlq
from tests.process.site import Site
from tests.unit.redrive_rig import old_line

pytestmark = pytest.mark.process

POINTS = FAILPOINTS["reprocess-migrate"]


def migrate(site: Site, failpoints: str = "") -> int:
    done = subprocess.run(
        site.command("sda-reprocess", "migrate"), cwd=site.root, check=False, timeout=60,
        env={**os.environ, "SDA_FAILPOINTS": failpoints}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode


def grow_old(site: Site) -> None:
    """The DLQ as a release of version 1 would have left it: in two files, the newest in use."""
    files, directory = Files(site.root), site.state / "dlq"
    (older,) = directory.glob("*-1.jsonl")
    newest = older.with_name(older.name.replace("-1.jsonl", "-2.jsonl"))
    lines = [old_line(entry) for entry in in_dlq(site)]
    older.write_bytes(b"".join(lines[: len(lines) // 2]))
    newest.write_bytes(b"".join(lines[len(lines) // 2 :]))
    size = newest.stat().st_size
    files.repos(lambda pos: (setattr(pos, "file", newest.name), setattr(pos, "length", size)))
    assert verdict.audit_faults(site) == [], "the audit reads both versions"


def same(before: list[Entry], after: list[Entry]) -> bool:
    def known(entry: Entry) -> tuple[object, ...]:
        return entry.dlq_id, entry.original_payload, entry.log_position, entry.index

    return [*map(known, before)] == [*map(known, after)]


def test_killed_between_every_two_steps(site: Site) -> None:
    site.write_topology(**PLAYBACK)
    with Live(site) as live:
        live.settle()
        live.stop()
    before, marks = in_dlq(site), read_marks(site.state / "dlq")
    assert len(before) > 200
    grow_old(site)
    for point in POINTS:
        assert migrate(site, f"reprocess-migrate.{point}=1:kill") == -signal.SIGKILL, point
        assert same(before, in_dlq(site)), point
        assert read_marks(site.state / "dlq") == marks, point
        assert verdict.audit_faults(site) == [], point
    assert any(file.old for file in look(site.state / "dlq")), "each kill left something to do"
    assert migrate(site) == 0
    assert {entry.schema_version for entry in in_dlq(site)} == {SCHEMA_VERSION}
    assert same(before, in_dlq(site))
    with Live(site) as live:
        assert migrate(site) == 4, "not beside a running pipeline"
        site.fill()  # the same traffic again: all late, and its rejects refused anew
        live.settle(2 * len(before))
        live.stop()
    assert len(in_dlq(site)) == 2 * len(before)
    assert counts(site)["radar"]["residue"] == 0


def test_the_files_of_an_upgraded_release_need_no_migration(site: Site, tmp_path: Path) -> None:
    """A sink of this release goes on in a file of version 1."""
    site.write_topology(**PLAYBACK)
    with Live(site) as live:
        live.settle()
        live.stop()
    before = in_dlq(site)
    grow_old(site)
    with Live(site) as live:
        site.fill()
        live.settle(2 * len(before))
        live.stop()
    versions = [entry.schema_version for entry in in_dlq(site)]
    assert versions == [1] * len(before) + [SCHEMA_VERSION] * len(before)
    assert verdict.audit_faults(site) == []
    check_damage(site)


def check_damage(site: Site) -> None:
    """A damaged line is no more and no less to the audit after a migration; a start mends it."""
    directory = site.state / "dlq"
    oldest = jsonl_files(directory)[0]
    lines = oldest.read_bytes().splitlines(keepends=True)
    oldest.write_bytes(b"".join([b"{" + lines[0], *lines[1:]]))
    before = verdict.audit_faults(site)
    assert len(before) > 0
    assert migrate(site) == 0
    assert verdict.audit_faults(site) == before
    with Live(site) as live:
        live.settle(len(lines))
        live.stop()
    assert verdict.audit_faults(site) == []
