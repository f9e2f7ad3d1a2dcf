"""END of a finite input, and what a source tells while it must not read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from operators.source import SourceLoop
from sda_pipeline.records.frames import KIND_END, parse_payload
from sda_pipeline.runtime.launch import RunFlags
from tests.scenarios.scripted_broker import Topic
from tests.scenarios.source_stage import Stage, staged
from tests.scenarios.test_idle_and_outage import flowing


def finite(stage: Stage) -> SourceLoop:
    """The source, told that its input ends."""
    loop = stage.loops["east"]
    loop.worker.launch = SimpleNamespace(  # type: ignore[assignment]
        flags=RunFlags(end_of_input=True), suspect=False
    )
    return loop


def test_end_stands_behind_what_will_never_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a transaction lies behind the last message; a restarted source must not wait
    for it.
    """
    with staged(tmp_path, {"east": flowing(-30.0, -20.0)}) as stage:
        stage.run(-19.5)
        loop = finite(stage)
        assert loop.intake.offsets.next == {0: 10}
        monkeypatch.setattr(loop.intake.consumer, "position", lambda _partition: 11)
        monkeypatch.setattr(loop.intake.consumer, "lag", lambda: {0: 0})
        stage.run(-18.0)
        last = loop.log.last()
        assert last is not None
        assert last.header.kind == KIND_END
        assert parse_payload(last.header, bytes(last.payload)).parts[0].next_offset == 11


def test_a_source_that_must_not_write_still_tells_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staged(tmp_path, {"east": flowing(-30.0, -20.0)}) as stage:
        loop = stage.loops["east"]
        monkeypatch.setattr(loop.disk, "enough", lambda _now: stage.now_s < -25.0)
        stage.run(-18.0)
        assert loop.counts.read < 10
        assert stage.board.get("east.lag") == 10 - loop.counts.read


def test_an_empty_input_ends_at_once(tmp_path: Path) -> None:
    topic = Topic()
    with staged(tmp_path, {"east": topic}) as stage:
        assert not finite(stage).ended
        stage.run(-28.0)
        assert stage.loops["east"].ended
