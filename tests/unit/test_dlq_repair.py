"""A damaged line anywhere in the DLQ's files: told, moved aside, and its position taken again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sda_pipeline.dlq import files as dlq_files
from sda_pipeline.dlq.entry import Entry, entry_of
from sda_pipeline.dlq.files import DlqFiles, jsonl_files, read_entries
from sda_pipeline.dlq.marks import NO_INDEX, Mark
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.rejects import Reach
from tests.unit.alert_rig import T0
from tests.unit.dlq_rig import LOG, head, reject

DAY = 86_400 * SECOND_NS
POSITIONS = 4
EACH = 3  # rejects of a position


def entries(position: int) -> list[Entry]:
    return [
        entry_of(reject(10 * position + at), head(position, EACH), at, "radar", "sda.obs.radar")
        for at in range(EACH)
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two files of two positions each."""
    with DlqFiles(tmp_path / "dlq") as files:
        for position in range(1, POSITIONS + 1):
            files.append(entries(position), T0 + position // 3 * DAY)
            files.sync({"radar": Mark(LOG, position, EACH - 1, entries=EACH * position)})
    return tmp_path / "dlq"


def flip(path: Path, line: int) -> bytes:
    """One byte in the middle of a line, numbered from 1; returns the line as it is then."""
    lines = path.read_bytes().splitlines(keepends=True)
    at = len(lines[line - 1]) // 2
    lines[line - 1] = lines[line - 1][:at] + b"~" + lines[line - 1][at + 1 :]
    path.write_bytes(b"".join(lines))
    return lines[line - 1]


@pytest.mark.parametrize("file", [0, 1])
@pytest.mark.parametrize("line", range(1, 2 * EACH + 1))
def test_each_line_is_repaired(root: Path, file: int, line: int) -> None:
    path, before = jsonl_files(root)[file], [*read_entries(root)]
    damaged = flip(path, line)
    number = 2 * EACH * file + line - 1  # of all lines
    with DlqFiles(root) as files:
        aside = path.with_name(f"{path.name}.damaged-1")
        where = f"{path.name} line {line}"
        assert files.faults == [f"{where}: its CRC is wrong; it was moved to {aside.name}"]
        assert aside.read_bytes() == damaged
        last_whole = before[number - 1].log_position if number else 1
        assert files.marks == {
            "radar": Mark(
                LOG, last_whole - 1, NO_INDEX, entries=EACH * POSITIONS - 1, again=POSITIONS
            )
        }
    assert [*read_entries(root)] == before[:number] + before[number + 1 :]
    with DlqFiles(root) as files:
        assert files.faults == []
        assert files.marks["radar"].again == POSITIONS


def test_damage_before_the_marks_of_another_log_sends_all_of_the_present_one(root: Path) -> None:
    with DlqFiles(root) as files:
        files.sync({"radar": Mark(7, 2, 0, entries=12, replaced=True)})
    flip(jsonl_files(root)[1], 2)
    with DlqFiles(root) as files:
        mark = files.marks["radar"]
        assert (mark.log_id, mark.position, mark.again, mark.replaced) == (7, 0, 2, True)


def test_a_mark_set_back_does_not_know_how_far_the_files_reach(root: Path) -> None:
    """Else a log lost before it sends the damaged reject again would take that with it."""
    reaches = (Reach(0, 0, 99),)
    with DlqFiles(root) as files:
        files.sync({"radar": msgspec.structs.replace(files.marks["radar"], reaches=reaches)})
    with DlqFiles(root) as files:
        assert files.marks["radar"].reaches == reaches
    flip(jsonl_files(root)[0], 2)
    with DlqFiles(root) as files:
        assert files.marks["radar"].reaches == ()


@pytest.mark.parametrize("step", ["keep_aside", "set_back", "take_out"])
def test_a_kill_between_two_steps_leaves_the_damage_to_be_found_again(
    root: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [*read_entries(root)]
    flip(jsonl_files(root)[0], 2)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dlq_files, step, killed)
        with pytest.raises(KeyboardInterrupt):
            DlqFiles(root)
    with DlqFiles(root) as files:
        assert "line 2: its CRC is wrong" in files.faults[-1]
        assert files.marks["radar"] == Mark(LOG, 0, NO_INDEX, entries=11, again=POSITIONS)
    assert [*read_entries(root)] == before[:1] + before[2:]
