"""An idle marker is in the log: whoever comes after a kill decides as the first one did (DESIGN 8).

The source is killed around its marker, between any two steps; a late row follows that only the
marker makes late.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from operators.source import SourceLoop
from sda_pipeline.records.frames import KIND_IDLE
from tests.scenarios.scripted_broker import Topic
from tests.scenarios.source_stage import ALLOWED_S, Stage, staged

QUIET_FROM_S, QUIET_TO_S = -20.0, -5.0
MARKED_S = 14.0  # at least so far do the markers move the watermark
OLD_S = QUIET_FROM_S + 1.0  # observed right after the last row, delivered after the markers
POINTS = ("after_append", "after_sync", "after_publish")


def topic() -> Topic:
    """Rows, a quarter of a minute of nothing, one row of before that, and rows again."""
    said = Topic()
    for at_s in range(-30, int(QUIET_FROM_S) + 1):
        said.say(float(at_s))
    said.say(OLD_S, arrives_s=QUIET_TO_S)
    for at_s in range(int(QUIET_TO_S) + 1, 10):
        said.say(float(at_s))
    return said


def decisions(stage: Stage) -> list[tuple[int, int, int, int]]:
    """What each record decided: its kind, rows, late rows so far, the partition's watermark."""
    return [
        (s.header.kind, s.header.rows, s.counts.late, s.parts[0].watermark)
        for s in stage.standings()
        if s.header is not None
    ]


def markers(stage: Stage) -> list[int]:
    """Positions of the idle markers."""
    return [s.header.position for s in stage.standings() if s.header and s.header.kind == KIND_IDLE]


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[int], list[tuple[int, int, int, int]]]:
    """Positions of the idle markers, and all decisions."""
    with staged(tmp_path_factory.mktemp("calm"), {"east": topic()}) as stage:
        stage.run(10.0)
        assert stage.counts().late == 1, "the old row, by the markers before it"
        assert stage.watermark_s() > QUIET_TO_S
        return markers(stage), decisions(stage)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("which", [0, -1], ids=["the first marker", "the last marker"])
def test_what_a_marker_made_late_stays_late(
    which: int, point: str, undisturbed: tuple[list[int], list[tuple[int, int, int, int]]],
    tmp_path: Path,
) -> None:  # fmt: skip
    positions, calm = undisturbed
    position = positions[which]
    with staged(tmp_path, {"east": topic()}) as stage:
        stage.dies = ("east", point, position)
        stage.run(10.0)
        assert stage.dies is None, "it was killed there"
        after = decisions(stage)
        assert after[:position] == calm[:position], "what was in the log is as it was"
        applied = stage.correlator.core.positions["east"]
        assert applied.position == len(after), "the marker was sent again"
        if which == -1:
            assert stage.counts().late == 1
            assert [kept for kept in after if kept[0] != KIND_IDLE][:12] == [
                kept for kept in calm if kept[0] != KIND_IDLE
            ][:12]


def test_a_marker_that_is_not_logged_would_be_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the watermark moves in memory only, and the kill comes before the old row."""
    record = SourceLoop.record

    def unlogged(self: SourceLoop, kind: int, *rest: object, **more: object) -> None:
        if kind != KIND_IDLE:
            record(self, kind, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(SourceLoop, "record", unlogged)
    late = []
    for name in ("calm", "killed"):
        with staged(tmp_path / name, {"east": topic()}) as stage:
            stage.run(QUIET_TO_S - 0.5)
            if name == "killed":
                stage.loops["east"].log.close()
                stage.start("east")
            stage.run(10.0)
            late.append(stage.counts().late)
    assert late == [1, 0], "a kill has decided"


assert MARKED_S > 1.0 + ALLOWED_S, "enough to make the old row late"
