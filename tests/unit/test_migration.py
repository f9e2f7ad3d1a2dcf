"""DLQ files in the newest schema version: every line kept, marks still right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sda_pipeline.dlq import migration
from sda_pipeline.dlq.entry import SCHEMA_VERSION, encode_line
from sda_pipeline.dlq.files import DlqFiles, read_entries, read_marks
from sda_pipeline.dlq.marks import Mark
from sda_pipeline.dlq.reading import derive, jsonl_files
from sda_pipeline.errors import Unreachable
from tests.unit.redrive_rig import T0, entry, old_line

MARK = Mark(log_id=1, position=1, index=5, entries=6)
UNKNOWN = json.dumps({"schema_version": 7, "x": 1}).encode() + b"\n"
DAMAGED = b'{"schema_version":2,"broken\n'


def old_dlq(directory: Path) -> None:
    """Two files of version 1 with a line of the future and a damaged one, which the opening moves
    aside; the newest is in use.
    """
    directory.mkdir(mode=0o700)
    (directory / "2026-11-22-1.jsonl").write_bytes(
        b"".join(map(old_line, map(entry, range(3)))) + UNKNOWN + DAMAGED
    )
    newest = directory / "2026-11-23-1.jsonl"
    newest.write_bytes(b"".join(map(old_line, map(entry, range(3, 6)))))
    with DlqFiles(directory) as files:
        files.sync({"radar": MARK})
    assert read_marks(directory) == {"radar": MARK}


def migrate(directory: Path) -> list[migration.Found]:
    return [*migration.migrate(directory, T0)]


def entries(directory: Path) -> list[int]:
    return [e.offset for e in read_entries(directory)]


def test_every_line_is_kept_and_the_marks_stay_right(tmp_path: Path) -> None:
    directory = tmp_path / "dlq"
    old_dlq(directory)
    before = [*read_entries(directory)]
    done = migrate(directory)
    assert [(f.path.name, f.old, dict(f.unknown), f.damaged) for f in done] == [
        ("2026-11-22-1.jsonl", 3, {7: 1}, 0), ("2026-11-23-1.jsonl", 3, {}, 0)
    ]  # fmt: skip
    after = [*read_entries(directory)]
    assert {e.schema_version for e in after} == {SCHEMA_VERSION}
    assert list(map(encode_line, after)) == list(map(encode_line, before))
    first = (directory / "2026-11-22-1.jsonl").read_bytes()
    assert first.endswith(UNKNOWN)
    assert (directory / "2026-11-22-1.jsonl.damaged-1").read_bytes() == DAMAGED
    assert derive(directory).marks == {"radar": MARK}
    assert derive(directory).faults == []
    assert [f for f in migration.look(directory) if f.old] == []
    assert migrate(directory) == [], "there is nothing left to do"
    # The sink goes on where it was.
    with DlqFiles(directory) as files:
        assert (files.faults, files.marks) == ([], {"radar": MARK})
        files.append([entry(6)], T0)
        files.sync({"radar": Mark(log_id=1, position=1, index=6, entries=7)})
    assert entries(directory) == [*range(7)]
    assert {path.stat().st_mode & 0o777 for path in jsonl_files(directory)} == {0o600}


def test_damage_is_left_to_whoever_has_the_rejects_sent_again(tmp_path: Path) -> None:
    """Moved aside here, the marks would speak of less than the logs until the next start."""
    directory = tmp_path / "dlq"
    old_dlq(directory)
    older = directory / "2026-11-22-1.jsonl"
    older.write_bytes(older.read_bytes() + DAMAGED)
    with (directory / "2026-11-23-1.jsonl").open("ab") as newest:
        newest.write(DAMAGED + b'{"torn')
    told: list[str] = []
    aside = {*directory.glob("*.damaged-*")}
    done = [*migration.migrate(directory, T0, told.append)]
    assert [f.damaged for f in done] == [1, 2]
    assert told[0] == "2026-11-23-1.jsonl: a torn last line of 6 bytes was cut"
    assert entries(directory) == [*range(6)]
    assert older.read_bytes().endswith(UNKNOWN + DAMAGED)
    assert read_marks(directory) == {"radar": MARK}
    assert {*directory.glob("*.damaged-*")} == aside
    with DlqFiles(directory) as files:  # the sink's start
        moved = [fault for fault in files.faults if "its CRC is wrong" in fault]
        assert [fault.partition(" ")[0] for fault in moved] == [f.path.name for f in done]
        assert files.marks["radar"].position < MARK.position, "they are sent again"
    assert entries(directory) == [*range(6)]


def test_a_mixed_file_of_an_upgrade(tmp_path: Path) -> None:
    directory = tmp_path / "dlq"
    old_dlq(directory)
    with DlqFiles(directory) as files:  # the new release goes on in the old one's file
        files.append([entry(6)], T0)
        files.sync({"radar": Mark(log_id=1, position=1, index=6, entries=7)})
    (newest,) = [f for f in migration.look(directory) if f.newest]
    assert (newest.old, newest.newest) == (3, 1)
    migrate(directory)
    assert entries(directory) == [*range(7)]


def test_a_disk_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "dlq"
    old_dlq(directory)
    before = (directory / "2026-11-22-1.jsonl").read_bytes()

    def failing(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(migration.os, "fsync", failing)
    monkeypatch.setattr("sda_pipeline.dlq.files._sync", lambda _: None)
    with pytest.raises(Unreachable, match="nothing is changed in it"):
        migrate(directory)
    monkeypatch.undo()
    assert (directory / "2026-11-22-1.jsonl").read_bytes() == before
    assert (directory / "2026-11-22-1.jsonl.migrating").exists()
    migrate(directory)
    assert entries(directory) == [*range(6)]
    assert not [*directory.glob("*.migrating")]
