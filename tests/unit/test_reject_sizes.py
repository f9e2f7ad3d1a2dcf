"""Rejects of every size through a real ring: what a source may keep always fits a frame, and a log
that holds more than that stops nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from operators.core.batch import Source, build_frame, fitting
from operators.reject_cursor import RejectCursor
from sda_pipeline.broker.port import Batch, Headers
from sda_pipeline.dlq.redrive_headers import ROOT, write_headers
from sda_pipeline.limits import (
    BATCH_MESSAGES_MAX,
    BATCH_RAW_BYTES_MAX,
    FRAME_BYTES_MAX,
    KIB,
    MESSAGE_BYTES_MAX,
    MIB,
    PAYLOAD_BYTES_MAX,
    REJECT_BYTES_MAX,
    REJECT_CHUNK_BYTES,
    REJECT_STANDING_BYTES,
    ROW_BYTES,
    SENSOR_ID_CHARS_MAX,
)
from sda_pipeline.log.source_log import LogStart, SourceLog
from sda_pipeline.records.frames import KIND_ROWS, Counts, Part
from sda_pipeline.records.rejects import (
    Reach,
    Reject,
    Sent,
    bounded,
    pack_rejects,
    pack_sent,
    size_of,
    unpack_sent,
)
from sda_pipeline.records.wire import MESSAGE_CHARS_MAX
from sda_pipeline.ring.endpoints import Consumer, Producer
from sda_pipeline.ring.memory import close_ring, create_ring
from sda_pipeline.topology_graph import REJECT_EDGE_BYTES
from tests.unit.dlq_rig import reject
from tests.unit.sink_rig import Words

SOURCE = Source(0, 0xAA, 0xC0, never_shed=False)
PART_BYTES = 24  # of one partition in a frame
FRAME_HEAD_BYTES = FRAME_BYTES_MAX - BATCH_MESSAGES_MAX * ROW_BYTES
WIDEST = {"partition": 2**31 - 1, "generation": 2**32 - 1,
          "timestamp_ms": 2**63 - 1, "attempts": 999_999, "root": "f" * 32,
          "kind": "RetryBudgetExhausted", "message": "\U0001f6f0" * MESSAGE_CHARS_MAX,
          "sensor": "\U0001f6f0" * SENSOR_ID_CHARS_MAX}  # fmt: skip


class Rig:
    """A log of a source's rejects, and the ring to the dlq-sink."""

    def __init__(self, root: Path) -> None:
        self.fds = create_ring("radar->dlq-sink", REJECT_EDGE_BYTES)
        self.ring, self.sink = Producer(self.fds), Consumer(self.fds)
        self.log = SourceLog.open(root, 0, LogStart(SOURCE.log_id, 1))
        self.got: list[Reject] = []
        self.frames = 0

    def append(self, rejects: list[Reject]) -> None:
        """As a record of the log, whatever their size."""
        part = Part(0, 1, 5, 0)
        built = build_frame(SOURCE, KIND_ROWS, self.log.end + 1, 0, 1, (part,), Counts())
        self.log.append(built.header, built.payload, pack_rejects(rejects))
        self.log.sync()

    def send(self) -> None:
        """All of the log, as a source that starts does; the sink takes it as it comes."""
        worker = SimpleNamespace(board=Words(), name="radar", output_to=lambda _: self.ring)
        cursor = RejectCursor(cast("Any", worker), 0, self.log, 0, None)
        while cursor.behind:
            cursor.send(0, 1)
            while (slot := self.sink.read()) is not None:
                assert len(slot.payload) <= REJECT_CHUNK_BYTES
                self.got += unpack_sent(slot.payload).rejects
                self.frames += 1
                self.sink.release(slot.end)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "log")
    yield rig
    rig.log.close()
    rig.ring.close()
    rig.sink.close()
    close_ring(rig.fds)


def test_the_bounds_add_up() -> None:
    """The largest message there can be, with the longest reason, and whatever follows it."""
    largest = reject(2**63 - 1, key=bytes(MESSAGE_BYTES_MAX), raw=b"", **WIDEST)
    assert bounded(largest) is largest
    assert len(pack_rejects([largest])) <= size_of(largest) <= REJECT_BYTES_MAX
    parts = FRAME_HEAD_BYTES // PART_BYTES  # no frame has room for more partitions
    reaches = tuple(Reach(2**31 - 1, 2**32 - 1, 2**63 - 1) for _ in range(parts))
    assert len(pack_sent(Sent([], reaches, 2**64 - 1, 2**63))) <= REJECT_STANDING_BYTES
    assert 2 * REJECT_CHUNK_BYTES <= REJECT_EDGE_BYTES // 4


@pytest.mark.parametrize("many", [
    reject(0, key=bytes(900), raw=b"x"), reject(0, key=bytes(MESSAGE_BYTES_MAX), raw=b""),
    reject(0, key=b"", raw=b"x", **WIDEST), reject(0, key=b"", raw=bytes(PAYLOAD_BYTES_MAX)),
], ids=["keys", "large-keys", "reasons", "bytes"])  # fmt: skip
def test_many_rejects_go_in_pieces(many: Reject, rig: Rig) -> None:
    """As many as a batch may bring, and their sizes are in what nobody may forget to count."""
    count = 2 * BATCH_RAW_BYTES_MAX // max(len(many.key) + len(many.raw), KIB)
    rig.append([many] * count)
    rig.send()
    assert rig.got == [many] * count
    assert rig.frames >= count * len(pack_rejects([many])) // REJECT_CHUNK_BYTES > 1


def test_a_log_with_larger_rejects_stops_nothing(rig: Rig) -> None:
    """Of a release that kept any key, or a record in quarantine: what does not fit is told."""
    keys = [reject(n, key=bytes(900_000), raw=b"x") for n in range(4)]
    whole = [reject(4, key=b"", raw=bytes(3 * MIB)), reject(5)]
    rig.append(keys)
    rig.append(whole)
    rig.send()
    assert [(r.offset, r.key, r.raw) for r in rig.got] == [
        *[(n, b"", b"x") for n in range(4)], (4, b"", b""), (5, b"123", b"{5"),
    ]  # fmt: skip
    assert rig.got[0].message == "not JSON; its key (900000 bytes) over the limit and not kept"
    assert rig.got[4].message.endswith("its key (0 bytes) and its bytes (3145728) over the limit "
                                       "and not kept")  # fmt: skip
    assert rig.got[5].message == "not JSON"


def batch(*messages: tuple[bytes, bytes, Headers]) -> Batch:
    keys, values, headers = zip(*messages, strict=True)
    count = len(messages)
    return Batch(
        np.zeros(count, np.int32), np.arange(count), np.zeros(count, np.int64), [*keys], [*values],
        [*headers] if any(headers) else [],
    )  # fmt: skip


def test_what_is_too_large_with_key_and_headers() -> None:
    most = MESSAGE_BYTES_MAX
    trace: Headers = (("trace-é", b"12"),)  # ten bytes
    good = batch((b"k", b"v", ()), (bytes(most - 1), b"v", ()))
    assert fitting(good)[0] is good
    found, large = fitting(batch(
        (bytes(most - 11), b"v", trace), (bytes(most - 10), b"v", trace), (b"k", b"v", trace),
        (bytes(most), b"v", ()), (b"", bytes(most), ()),
    ))  # fmt: skip
    assert (found.offsets.tolist(), large) == ([0, 2, 4], 2)
    again = write_headers("f" * 32, 3)
    assert fitting(batch((bytes(most - 1), b"v", again)))[1] == 0, "it may come again"
    lies: Headers = ((ROOT, bytes(40)),)
    assert fitting(batch((bytes(most - 1), b"v", lies)))[1] == 1
    none, large = fitting(batch((bytes(most), b"v", ())))
    assert (none.values, large) == ([], 1)
