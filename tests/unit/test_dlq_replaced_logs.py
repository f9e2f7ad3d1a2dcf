"""The dlq-sink when logs are replaced: what it tells a source, and that nothing comes twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from operators import dlq_sink
from operators.reject_cursor import dlq_done
from sda_pipeline.dlq.files import DlqFiles
from tests.unit.dlq_rig import LOG, DlqRig, LogRecord, open_dlq_rig, reject
from tests.unit.sink_rig import Words

OTHER = 0xBB


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[DlqRig]:
    with open_dlq_rig(tmp_path) as rig:
        rig.start("radar", [LogRecord(1, [reject(0)]), LogRecord(2, []), LogRecord(3, [reject(1)])])
        rig.settle()
        yield rig


def test_a_source_continues_behind_what_is_in_the_files(rig: DlqRig) -> None:
    rig.board = Words()  # the tree was started again
    rig.life()
    assert dlq_done(rig.board, "radar", LOG) == 3  # type: ignore[arg-type]


def test_what_is_known_of_an_older_log_does_not_speak_of_the_one_that_replaced_it(
    rig: DlqRig,
) -> None:
    """Found by the simulation: the log was made anew, the tree was started again before the sink
    had taken anything of it; its rejects were taken for delivered, and the run never ended.
    """
    rig.board = Words()
    rig.life()
    assert dlq_done(rig.board, "radar", OTHER) == 0  # type: ignore[arg-type]
    rig.start("radar", [LogRecord(1, [reject(0)]), LogRecord(2, [reject(7)])], log_id=OTHER)
    rig.settle()
    assert dlq_done(rig.board, "radar", OTHER) == 2  # type: ignore[arg-type]
    assert dlq_done(rig.board, "radar", LOG) == 0  # type: ignore[arg-type]
    assert rig.offsets("radar") == [0, 1, 7]


@pytest.mark.parametrize("batch_bytes", [1, dlq_sink.READ_BYTES_MAX])
def test_a_log_replaced_twice_repeats_nothing(
    batch_bytes: int, rig: DlqRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the simulation: both replacements within one life of the sink, which knew only what
    stood in the files at the first.
    """
    monkeypatch.setattr(dlq_sink, "READ_BYTES_MAX", batch_bytes)
    rig.start("radar", [LogRecord(1, [reject(0), reject(7)])], log_id=OTHER)
    rig.send()
    rig.start("radar", [LogRecord(1, [reject(7), reject(8)])], log_id=OTHER + 1)
    rig.send()
    assert rig.life()
    assert rig.offsets("radar") == [0, 1, 7, 8]


# --- what was before a log -----------------------------------------------------------------------


@pytest.mark.parametrize("batch_bytes", [1, dlq_sink.READ_BYTES_MAX])
def test_what_went_with_a_log_comes_first_and_once(
    batch_bytes: int, rig: DlqRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dlq_sink, "READ_BYTES_MAX", batch_bytes)
    lost = [reject(n) for n in range(8)]
    rig.start("radar", [LogRecord(9, [reject(20)])], log_id=OTHER, lost=lost)
    rig.send()
    rig.life(("after_sync", 2))
    assert dlq_done(rig.board, "radar", OTHER) <= 9  # type: ignore[arg-type]
    rig.settle()
    assert rig.offsets("radar") == [*range(8), 20]
    assert rig.rewinds == 0


@pytest.mark.parametrize("found_again", [range(8), range(2, 8), range(4, 8)])
def test_a_source_that_starts_again_may_find_less_of_it(rig: DlqRig, found_again: range) -> None:
    """What the files hold meanwhile is not sought again: nothing may rest on its place."""
    log = [LogRecord(9, [reject(20)])]
    rig.start("radar", log, log_id=OTHER, lost=[reject(n) for n in range(8)])
    rig.sides["radar"].pending = rig.sides["radar"].pending[:2]  # 0 to 3
    rig.send()
    assert rig.life()
    rig.start("radar", log, log_id=OTHER, lost=[reject(n) for n in found_again])
    side = rig.sides["radar"]
    side.start(0, side.lost)  # its mark says that not all has come
    rig.settle()
    assert rig.offsets("radar") == [*range(8), 20]
    assert rig.rewinds == 0


def test_a_log_that_nobody_opened_is_a_rewind(rig: DlqRig) -> None:
    rig.start("radar", [LogRecord(9, [reject(20)])], log_id=OTHER, lost=[reject(7)])
    rig.sides["radar"].pending.pop(0)
    rig.send()
    assert not rig.life()
    assert rig.rewinds == 1
    rig.settle()
    assert rig.offsets("radar") == [0, 1, 7, 20]


def test_a_sink_that_reads_all_its_files_is_seen_to_live(
    rig: DlqRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many GB of them it was taken for hung and killed, again and again."""
    monkeypatch.setattr("sda_pipeline.dlq.files.ENTRIES_PER_BEAT", 1)
    beats = []
    rig.life()
    with DlqFiles(rig.directory) as files:
        assert len(files.known_ids("radar", lambda: beats.append(1))) == 2
    assert len(beats) == 2
