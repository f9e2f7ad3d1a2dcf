"""Rejects and their heads on the way to the dlq-sink: bytes and back, damage."""

from __future__ import annotations

import pytest

from sda_pipeline.errors import StateCorrupt
from sda_pipeline.records import rejects
from sda_pipeline.records.rejects import Reject, RejectHead, pack_rejects, unpack_rejects

REJECT = Reject(
    partition=3, generation=1, offset=77, timestamp_ms=5, kind="Deserialization", message="why ☂",
    key=b"25544", raw=b"\x00\xff", sensor="", root="", attempts=0,
)  # fmt: skip


def test_rejects_survive_packing() -> None:
    assert unpack_rejects(pack_rejects([REJECT, REJECT])) == [REJECT, REJECT]
    assert pack_rejects([]) == b""
    assert unpack_rejects(b"") == []


@pytest.mark.parametrize("data", [b"\xc1", b"\x91", b"\x91\x90", b"\x91\xa1x"])
def test_damaged_rejects_are_typed(data: bytes) -> None:
    with pytest.raises(StateCorrupt, match="cannot read rejects"):
        unpack_rejects(data)


def test_reject_head() -> None:
    head = RejectHead(2, rejects.KIND_REJECTS, 10, 2**64 - 1, 9, 4, 1, -5, 8, 2**64 - 2)
    assert len(head.pack()) == 56
    assert RejectHead.unpack(memoryview(head.pack())) == head
    assert head.pack()[:8] == bytes([2, 1, 0, 0, 10, 0, 0, 0])
    with pytest.raises(StateCorrupt, match="55 bytes"):
        RejectHead.unpack(head.pack()[:-1])
    with pytest.raises(StateCorrupt, match="kind 4"):
        RejectHead.unpack(head._replace(kind=4).pack())
