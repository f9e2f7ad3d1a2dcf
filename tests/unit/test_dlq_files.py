"""The DLQ's files: rotation, repair on open, marks that survive any damage, the reader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sda_pipeline.dlq import files as dlq_files
from sda_pipeline.dlq.entry import Entry, entry_of
from sda_pipeline.dlq.files import (
    POS_NAME,
    DlqFiles,
    Skipped,
    jsonl_files,
    read_entries,
    read_marks,
)
from sda_pipeline.dlq.marks import Mark
from sda_pipeline.durable_file import sealed
from sda_pipeline.errors import InvalidConfiguration, Unreachable
from sda_pipeline.limits import SECOND_NS
from tests.unit.alert_rig import T0
from tests.unit.dlq_rig import LOG, head, reject

DAY = 86_400 * SECOND_NS  # T0 is in the evening of 2023-11-14


def _entries(position: int, count: int = 3, *, operator: str = "radar") -> list[Entry]:
    told = head(position, count)
    return [
        entry_of(reject(10 * position + i), told, i, operator, "sda.obs.radar")
        for i in range(count)
    ]


def _write(files: DlqFiles, position: int, now: int = T0, count: int = 3) -> None:
    """One whole position of radar rejects, durable."""
    files.append(_entries(position, count), now)
    old = files.marks.get("radar", Mark())
    files.sync({"radar": Mark(LOG, position, count - 1, entries=old.entries + count)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "dlq"


@pytest.fixture
def files(root: Path) -> Iterator[DlqFiles]:
    with DlqFiles(root) as files:
        yield files


def _names(root: Path) -> list[str]:
    return [path.name for path in jsonl_files(root)]


def test_what_is_written_is_read_in_order(files: DlqFiles, root: Path) -> None:
    _write(files, 1)
    _write(files, 2)
    assert list(read_entries(root)) == _entries(1) + _entries(2)
    assert read_marks(root) == files.marks == {"radar": Mark(LOG, 2, 2, entries=6)}
    assert root.stat().st_mode & 0o777 == 0o700


def test_a_new_file_each_day_and_at_the_size_limit(
    files: DlqFiles, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(files, 1)
    _write(files, 2)
    monkeypatch.setattr(dlq_files, "DLQ_FILE_BYTES", jsonl_files(root)[0].stat().st_size + 10)
    _write(files, 3)
    _write(files, 4, T0 + DAY)
    _write(files, 5, T0)  # the clock went back: the files do not
    _write(files, 6, T0 + 3 * DAY)
    assert _names(root) == [
        "2023-11-14-1.jsonl", "2023-11-14-2.jsonl", "2023-11-15-1.jsonl", "2023-11-17-1.jsonl",
    ]  # fmt: skip
    assert [entry.log_position for entry in read_entries(root)][::3] == [1, 2, 3, 4, 5, 6]


def test_the_tenth_file_of_a_day_comes_after_the_ninth(
    files: DlqFiles, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dlq_files, "DLQ_FILE_BYTES", 1)
    for position in range(1, 12):
        _write(files, position)
    assert _names(root)[-2:] == ["2023-11-14-10.jsonl", "2023-11-14-11.jsonl"]
    files.close()
    with DlqFiles(root) as again:
        assert again.marks["radar"].position == 11
        _write(again, 12)
    assert [entry.log_position for entry in read_entries(root)][::3] == list(range(1, 13))


def test_files_go_after_the_retention_but_never_the_one_in_use(files: DlqFiles, root: Path) -> None:
    for day in range(3):
        _write(files, 1 + day, T0 + day * DAY)
    assert files.expire(T0 + 30 * DAY) == []
    assert files.expire(T0 + 31 * DAY) == ["2023-11-14-1.jsonl"]
    assert files.expire(T0 + 99 * DAY) == ["2023-11-15-1.jsonl"]
    assert files.expire(T0 + 99 * DAY) == []  # once a day
    assert _names(root) == ["2023-11-16-1.jsonl"]
    assert files.marks["radar"].entries == 9  # still counted


def test_a_torn_last_line_is_cut_at_every_byte(root: Path) -> None:
    with DlqFiles(root) as files:
        _write(files, 1)
    path = jsonl_files(root)[0]
    whole = path.read_bytes()
    last = dlq_files.encode_line(_entries(2)[0])
    for torn in range(1, len(last), 17):
        path.write_bytes(whole + last[:torn])
        assert list(read_entries(root)) == _entries(1)
        with DlqFiles(root) as files:
            assert files.faults == [f"{path.name}: a torn last line of {torn} bytes was cut"]
            assert files.marks["radar"].position == 1
        assert path.read_bytes() == whole


def test_lines_beyond_the_marks_move_them(root: Path) -> None:
    """A kill after the lines' sync and before the marks'."""
    with DlqFiles(root) as files:
        _write(files, 1)
        files.append(_entries(2) + _entries(4, operator="optical"), T0)
    with DlqFiles(root) as files:
        assert files.faults == []
        assert files.marks == {
            "radar": Mark(LOG, 2, 2, complete=False, entries=6),
            "optical": Mark(LOG, 4, 2, complete=False, entries=3),
        }
        assert files.marks["radar"].done == 1  # the source sends position 2 again


def test_lines_in_files_beyond_the_marks_move_them(root: Path) -> None:
    with DlqFiles(root) as files:
        _write(files, 1)
        files.append(_entries(2), T0 + DAY)
    with DlqFiles(root) as files:
        assert files.marks["radar"] == Mark(LOG, 2, 2, complete=False, entries=6)


@pytest.mark.parametrize("damage", ["gone", "empty", "flipped", "cut"])
def test_lost_marks_are_read_from_the_files(root: Path, damage: str) -> None:
    with DlqFiles(root) as files:
        _write(files, 1)
        _write(files, 2, T0 + DAY)
    pos = root / POS_NAME
    data = pos.read_bytes()
    flipped = data.replace(b'"position":2', b'"position":9')
    assert flipped != data
    {
        "gone": pos.unlink,
        "empty": lambda: pos.write_bytes(b""),
        "flipped": lambda: pos.write_bytes(flipped),
        "cut": lambda: pos.write_bytes(data[:-20]),
    }[damage]()
    with DlqFiles(root) as files:
        assert bool(files.faults) == (damage != "gone")
        assert files.marks["radar"] == Mark(LOG, 2, 2, complete=False, entries=6)
    with DlqFiles(root) as files:
        assert files.faults == []  # repaired


@pytest.mark.parametrize("damage", ["shorter", "gone"])
def test_marks_that_promise_more_than_the_files_hold_are_not_believed(
    root: Path, damage: str
) -> None:
    with DlqFiles(root) as files:
        _write(files, 1)
        _write(files, 2, T0 + DAY)
    last = jsonl_files(root)[-1]
    if damage == "gone":
        last.unlink()
    else:
        last.write_bytes(b"".join(last.read_bytes().splitlines(keepends=True)[:1]))
    with DlqFiles(root) as files:
        assert any("shorter than" in fault for fault in files.faults)
        assert files.marks["radar"].done == (1 if damage == "shorter" else 0)


def test_a_damaged_line_is_told_and_stepped_over(root: Path) -> None:
    with DlqFiles(root) as files:
        _write(files, 1)
        _write(files, 2)
    path = jsonl_files(root)[0]
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"not JSON", b"nut JSON")
    lines[4] = json.dumps({**json.loads(lines[4]), "schema_version": 7}).encode() + b"\n"
    path.write_bytes(b"".join(lines))
    (root / POS_NAME).unlink()
    told: list[Skipped] = []
    entries = list(read_entries(root, told.append))
    assert [(e.log_position, e.index) for e in entries] == [(1, 0), (1, 2), (2, 0), (2, 2)]
    assert [(skip.file, skip.line) for skip in told] == [(path.name, 2), (path.name, 5)]
    with DlqFiles(root) as files:
        assert len(files.faults) == 3
        assert path.read_bytes() == b"".join((lines[0], *lines[2:]))
        (aside,) = root.glob("*.damaged-1")
        assert aside.read_bytes() == lines[1]  # nothing is thrown away


def test_a_newer_marks_file_is_refused(files: DlqFiles, root: Path) -> None:
    files.close()
    body = b'{"format":2,"file":"","length":0,"marks":{}}'
    (root / POS_NAME).write_bytes(sealed(body))
    with pytest.raises(InvalidConfiguration, match="format version 2"):
        DlqFiles(root)


def test_a_directory_that_cannot_be_is_refused(root: Path) -> None:
    root.write_text("in the way")
    with pytest.raises(Unreachable, match="cannot open the DLQ"):
        DlqFiles(root)


def test_a_full_disk_and_a_failed_sync_stop_the_writer(
    files: DlqFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(files, 1)

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(dlq_files.os, "write", refuse)
        with pytest.raises(Unreachable, match="No space"):
            files.append(_entries(2), T0)
    monkeypatch.setattr(dlq_files.os, "fdatasync", refuse)
    with pytest.raises(Unreachable, match="cannot sync"):
        files.sync({})


def test_other_files_in_the_directory_are_left_alone(files: DlqFiles, root: Path) -> None:
    for name in ("notes.jsonl", "2023-11-14-x.jsonl", "README"):
        (root / name).write_text("mine\n")
    _write(files, 1)
    assert list(read_entries(root)) == _entries(1)
    assert _names(root) == ["2023-11-14-1.jsonl"]
