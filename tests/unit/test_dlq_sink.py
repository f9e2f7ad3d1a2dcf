"""The dlq-sink as a shell: every reject once in the files, whatever is killed, whatever comes
again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from operators import dlq_sink
from sda_pipeline.dlq.files import POS_NAME, jsonl_files, read_entries
from sda_pipeline.errors import StateCorrupt
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.rejects import Sent, pack_sent
from sda_pipeline.ring.endpoints import Producer
from sda_pipeline.vocabulary import FAILPOINTS
from tests.unit.dlq_rig import DlqRig, LogRecord, head, open_dlq_rig, reject

POINTS = FAILPOINTS["dlq-sink"]


def _log(counts: list[int], first: int = 1) -> list[LogRecord]:
    """A log whose positions hold so many rejects; offsets count up."""
    log, offset = [], 0
    for position, count in enumerate(counts, first):
        log.append(LogRecord(position, [reject(offset + i) for i in range(count)]))
        offset += count
    return log


def _expected(log: list[LogRecord]) -> list[int]:
    return [item.offset for record in log for item in record.rejects]


RADAR, OPTICAL = _log([3, 0, 5, 0, 0, 1, 2, 0]), _log([0, 4, 4])


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[DlqRig]:
    with open_dlq_rig(tmp_path) as rig:
        rig.start("radar", RADAR)
        rig.start("optical", OPTICAL)
        yield rig


def _check(rig: DlqRig) -> None:
    assert rig.offsets("radar") == _expected(RADAR)
    assert rig.offsets("optical") == _expected(OPTICAL)


def test_every_reject_is_in_the_files_and_progress_moves_the_mark(rig: DlqRig) -> None:
    rig.settle()
    _check(rig)
    assert rig.board.get("radar.dlq_done") == 8
    assert rig.board.get("optical.dlq_done") == 3
    entry = next(read_entries(rig.directory))
    assert (entry.operator, entry.topic, entry.index) == ("radar", "sda.obs.radar", 0)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("hit", [1, 2, 3])
@pytest.mark.parametrize("restart", [False, True])
def test_a_kill_between_two_steps_loses_and_repeats_nothing(
    rig: DlqRig, point: str, hit: int, restart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dlq_sink, "READ_BYTES_MAX", 1)  # one slot of each source at a time
    rig.send()
    assert not rig.life((point, hit))
    if restart:
        rig.restart("radar")
    rig.settle()
    _check(rig)
    assert rig.rewinds == 0


def test_board_words_come_from_disk_before_ready(rig: DlqRig) -> None:
    rig.settle()
    rig.board.clear()
    rig.life()
    assert rig.board.get("radar.dlq_done") == 8


def test_lost_marks_repeat_nothing(rig: DlqRig) -> None:
    rig.settle()
    (rig.directory / POS_NAME).unlink()
    rig.board.clear()
    rig.life()
    assert rig.board.get("radar.dlq_done") == 6  # the last line is of 7, perhaps not its last
    rig.restart("radar")
    rig.restart("optical")
    rig.settle()
    _check(rig)


def test_a_torn_line_is_written_again(rig: DlqRig) -> None:
    rig.send()
    rig.life(("after_append", 1))
    path = jsonl_files(rig.directory)[0]
    path.write_bytes(path.read_bytes()[:-9])
    rig.settle()
    _check(rig)


def test_a_new_log_repeats_only_what_is_not_in_the_files(rig: DlqRig) -> None:
    """The log was lost above position 3: the same messages come again, cut otherwise, then new
    ones.
    """
    rig.settle()
    again = [item for record in RADAR[3:] for item in record.rejects]
    new = [reject(100 + i) for i in range(3)]
    replaced = [
        LogRecord(4, again[:1]),
        LogRecord(5, [*again[1:], *new[:1]]),
        LogRecord(6, new[1:]),
    ]
    rig.start("radar", replaced, log_id=0xBB)
    rig.life()
    assert rig.board.get("radar.dlq_done") == 0  # the mark speaks of another log
    rig.send()
    assert not rig.life(("after_sync", 1))
    rig.settle()
    assert rig.offsets("radar") == [*_expected(RADAR), 100, 101, 102]
    assert rig.board.get("radar.dlq_done") == 6


def test_a_missing_chunk_rewinds(rig: DlqRig) -> None:
    rig.sides["radar"].pending.pop(1)  # the rest of position 1
    rig.send()
    assert not rig.life()
    assert rig.rewinds == 1
    rig.settle()
    _check(rig)


def test_a_head_that_does_not_fit_its_payload_is_refused(rig: DlqRig) -> None:
    producer = Producer(rig.rings["radar"])
    payload = pack_sent(Sent([reject(1)]))
    producer.try_publish(head(1, 2).pack(), (payload,), crc32(payload))
    producer.close()
    with pytest.raises(StateCorrupt, match="does not fit its payload"):
        rig.life()


def test_old_files_are_deleted_and_said(rig: DlqRig) -> None:
    rig.settle()
    rig.clock.advance(40 * 86_400 * SECOND_NS)
    rig.start("radar", [*RADAR, LogRecord(9, [reject(50)])])
    rig.settle()
    rig.clock.advance(86_400 * SECOND_NS)
    rig.life()
    assert rig.last is not None
    assert rig.last.said("dlq_expired") == [{"file": "2023-11-14-1.jsonl"}]
    names = [path.name for path in jsonl_files(rig.directory)]
    assert names == ["2023-12-24-1.jsonl"]


# --- any schedule -----------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send")),
        st.tuples(st.just("life")),
        st.tuples(st.just("kill"), st.sampled_from(POINTS), st.integers(1, 3)),
        st.tuples(st.just("restart"), st.sampled_from(["radar", "optical"])),
        st.tuples(st.just("lose marks")),
    ),
    max_size=12,
)


def _perform(rig: DlqRig, steps: list) -> None:
    for verb, *arguments in steps:
        if verb == "send":
            rig.send()
        elif verb == "life":
            rig.life()
        elif verb == "kill":
            rig.life((arguments[0], arguments[1]))
        elif verb == "restart":
            rig.restart(arguments[0])
        else:
            (rig.directory / POS_NAME).unlink(missing_ok=True)
            rig.life()
            rig.restart("radar")
            rig.restart("optical")
    rig.settle()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=6), STEPS, st.sampled_from([1, 1000, 1 << 20]))
@example([], [("send",), ("kill", "after_read", 2), ("lose marks",)], 1)
def test_any_schedule_leaves_every_reject_once(
    counts: list[int], steps: list, read_bytes: int
) -> None:
    log = _log([*counts, 1])
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as root,
        open_dlq_rig(Path(root), capacity=2048) as rig,
    ):
        patch.setattr(dlq_sink, "READ_BYTES_MAX", read_bytes)
        rig.start("radar", log)
        rig.start("optical", OPTICAL)
        _perform(rig, steps)
        assert rig.offsets("radar") == _expected(log)
        assert rig.offsets("optical") == _expected(OPTICAL)


# --- negative controls ------------------------------------------------------------------------


def test_control_without_marks_a_kill_before_release_repeats(
    rig: DlqRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dlq_sink, "take", lambda mark, told: (0, mark))
    rig.send()
    rig.life(("after_sync", 1))
    rig.life()
    assert len(rig.offsets("radar")) > len(_expected(RADAR))


def test_control_release_before_sync_loses(rig: DlqRig, monkeypatch: pytest.MonkeyPatch) -> None:
    read = dlq_sink._Loop.read

    def eager(self: dlq_sink._Loop, consumer: object, chunks: list) -> int | None:
        end = read(self, consumer, chunks)
        if end is not None:
            consumer.release(end)
        return end

    monkeypatch.setattr(dlq_sink._Loop, "read", eager)
    rig.send()
    rig.life(("after_read", 1))
    rig.life()
    assert len(rig.offsets("radar")) < len(_expected(RADAR))
