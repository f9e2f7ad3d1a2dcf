"""Rejected records on their way from a source's log to the dlq-sink. Not the DLQ entry itself."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from sda_pipeline.errors import StateCorrupt

KIND_REJECTS, KIND_PROGRESS = 1, 2
REJECT_HEAD = struct.Struct("<BBHIQQIIqQ")
assert REJECT_HEAD.size == 48, "the reject head is part of the edge's format"


class Reject(msgspec.Struct, array_like=True, frozen=True):
    """One record the source refused, with its broker coordinates and original bytes."""

    partition: int
    generation: int
    offset: int
    timestamp_ms: int  # the broker's message timestamp
    kind: str  # an ErrorKind value
    message: str  # names the rule, the value and the limit
    key: bytes
    raw: bytes
    sensor: str  # "" when the record could not be read that far
    root: str  # dlq-id header of a re-injected record, else ""
    attempts: int


class RejectHead(NamedTuple):
    """The 48 bytes before the rejects of one log position (or of a part of them).

    ``first`` is the index of the first reject within its position; ``last`` is 1 on the last chunk
    of that position. A progress head (``kind`` 2) has no rejects. ``ingest`` in ns. ``catalogue``
    is that of the log record: by what the records were judged; 0: not known.
    """

    source: int
    kind: int
    count: int  # type: ignore[assignment]  # shadows tuple.count: the format's own name
    log_id: int
    position: int
    first: int
    last: int
    ingest: int
    catalogue: int = 0

    def pack(self) -> bytes:
        """The head's 48 bytes."""
        return REJECT_HEAD.pack(self.source, self.kind, 0, *self[2:])

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> RejectHead:
        """The head back from its bytes; StateCorrupt when they are not a head."""
        if len(data) != REJECT_HEAD.size:
            raise StateCorrupt("read a reject head", f"{len(data)} bytes, not {REJECT_HEAD.size}")
        source, kind, _reserved, *rest = REJECT_HEAD.unpack(data)
        if kind not in {KIND_REJECTS, KIND_PROGRESS}:
            raise StateCorrupt("read a reject head", f"its kind {kind} is neither 1 nor 2")
        return cls(source, kind, *rest)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Reject])


def pack_rejects(rejects: Sequence[Reject]) -> bytes:
    """Msgpack of the list; b"" when there is none."""
    return _encoder.encode(rejects) if rejects else b""


def unpack_rejects(data: bytes | memoryview) -> list[Reject]:
    """The list back; b"" is none. StateCorrupt when the bytes are not rejects."""
    if not data:
        return []
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, ValueError) as error:
        raise StateCorrupt("read rejects", str(error), "the log record is damaged") from error
