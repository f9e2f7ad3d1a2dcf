"""What the retention deletes stays counted, so that an audit knows what it need not find."""

from __future__ import annotations

from pathlib import Path

import pytest

from sda_pipeline.dlq.entry import entry_of
from sda_pipeline.dlq.files import DlqFiles, jsonl_files, read_entries
from sda_pipeline.dlq.marks import Mark, take, written
from sda_pipeline.dlq.reading import derive
from sda_pipeline.limits import SECOND_NS
from tests.unit.alert_rig import T0
from tests.unit.dlq_rig import LOG, before, head, reject

DAY = 86_400 * SECOND_NS
LATER = T0 + 40 * DAY


def write(files: DlqFiles, position: int, now: int, source: str = "radar") -> None:
    """Two rejects of one position; one says in its message what a line of another source says."""
    told = head(position, 2)
    rejects = [reject(2 * position), reject(2 * position + 1, message=',"operator":"optical",')]
    entries = [entry_of(r, told, i, source, f"sda.obs.{source}") for i, r in enumerate(rejects)]
    files.append(entries, now)
    old = files.marks.get(source, Mark())
    files.sync({source: Mark(LOG, position, 1, entries=old.entries + 2, expired=old.expired)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with DlqFiles(tmp_path / "dlq") as files:
        write(files, 1, T0)
        write(files, 1, T0, "optical")
        write(files, 2, T0 + DAY)
        write(files, 3, LATER)
    return tmp_path / "dlq"


def balance(root: Path) -> dict[str, tuple[int, int]]:
    """By source: lines that are there, lines that must be."""
    derived = derive(root)
    held = [entry.operator for entry in read_entries(root, oldest=derived.oldest)]
    return {
        source: (held.count(source), mark.entries - mark.expired)
        for source, mark in derived.marks.items()
    }


def test_the_marks_say_how_many_lines_are_expired(root: Path) -> None:
    assert balance(root) == {"radar": (6, 6), "optical": (2, 2)}
    with DlqFiles(root) as files:
        assert len(files.expire(LATER)) == 2
    assert balance(root) == {"radar": (2, 2), "optical": (0, 0)}
    assert {s: m.entries for s, m in derive(root).marks.items()} == {"radar": 6, "optical": 2}


def test_a_kill_before_the_files_are_deleted_counts_them_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DlqFiles(root) as files, monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            files.expire(LATER)
    assert len(jsonl_files(root)) == 3
    assert balance(root) == {"radar": (2, 2), "optical": (0, 0)}, "they are as good as gone"
    with DlqFiles(root) as files:
        assert len(files.expire(LATER)) == 2
    assert len(jsonl_files(root)) == 1
    assert balance(root) == {"radar": (2, 2), "optical": (0, 0)}


def test_a_line_that_is_gone_otherwise_shows(root: Path) -> None:
    """The control."""
    with DlqFiles(root) as files:
        files.expire(LATER)
    path = jsonl_files(root)[-1]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b" " * (len(lines[1]) - 1) + b"\n")
    assert balance(root)["radar"] == (1, 2)


def test_what_is_expired_is_kept_by_every_later_mark() -> None:
    mark = Mark(LOG, 5, 3, entries=9, expired=4)
    for following in (head(6, 1), before(3, log_id=7)):
        assert take(mark, following)[1].expired == 4
    assert written(mark, LOG, 6, 0).expired == 4
