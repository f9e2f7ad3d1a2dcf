"""quarantine.jsonl: durable line by line, torn ends are cut, damage is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sda_pipeline.dlq.quarantine_file import Line, QuarantineFile, read_quarantine
from sda_pipeline.errors import InvalidConfiguration, SdaError, StateCorrupt


def line(offset: int) -> Line:
    return Line(
        at="2026-11-23T12:00:00.000Z", operator="correlator", deaths=3, source="radar",
        generation=1, partition=2, offset=offset, report=offset,
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "quarantine.jsonl"


def test_lines_come_back_in_order(path: Path) -> None:
    assert read_quarantine(path) == []
    file = QuarantineFile(path)
    for offset in (1, 2, 3):
        file.append(line(offset))
    assert read_quarantine(path) == file.lines == [line(1), line(2), line(3)]
    assert QuarantineFile(path).lines == file.lines
    assert path.stat().st_mode & 0o777 == 0o600
    assert line(3).coordinates == (1, 2, 3)


def test_a_tear_at_every_byte_costs_the_last_line_only(path: Path) -> None:
    file = QuarantineFile(path)
    file.append(line(1))
    whole = path.stat().st_size
    file.append(line(2))
    data = path.read_bytes()
    for end in range(whole, len(data)):
        path.write_bytes(data[:end])
        assert read_quarantine(path) == [line(1)]
        repaired = QuarantineFile(path)
        assert (repaired.lines, repaired.torn_bytes) == ([line(1)], end - whole)
        repaired.append(line(9))
        assert read_quarantine(path) == [line(1), line(9)]


def test_a_flipped_byte_anywhere_is_refused_not_guessed(path: Path) -> None:
    file = QuarantineFile(path)
    file.append(line(1))
    file.append(line(2))
    data = path.read_bytes()
    for at in range(len(data) - 1):  # without its last newline a line counts as torn
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x04]) + data[at + 1 :])
        with pytest.raises(StateCorrupt, match=r"line [12]"):
            read_quarantine(path)
        with pytest.raises(StateCorrupt):
            QuarantineFile(path)


def test_an_unknown_version_is_refused(path: Path) -> None:
    newer = line(1)
    file = QuarantineFile(path)
    file.append(Line(**{name: getattr(newer, name) for name in newer.__struct_fields__}
                     | {"schema_version": 2}))  # fmt: skip
    with pytest.raises(InvalidConfiguration, match="version 2"):
        read_quarantine(path)


def test_nothing_rests_on_a_line_that_could_not_be_written(tmp_path: Path) -> None:
    file = QuarantineFile(tmp_path / "gone" / "quarantine.jsonl")
    with pytest.raises(SdaError, match="cannot quarantine a record"):
        file.append(line(1))
    assert file.lines == []
