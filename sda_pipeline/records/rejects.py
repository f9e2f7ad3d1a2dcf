"""Rejected records on their way from a source's log to the dlq-sink. Not the DLQ entry itself."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from sda_pipeline.errors import StateCorrupt
from sda_pipeline.limits import PAYLOAD_BYTES_MAX, REJECT_BYTES_MAX

KIND_REJECTS, KIND_PROGRESS, KIND_BEFORE = 1, 2, 3
REJECT_HEAD = struct.Struct("<BBHIQQIIqQQ")
assert REJECT_HEAD.size == 56, "the reject head is part of the edge's format"
UTF8_BYTES_MAX = 4  # of one character
FIXED_BYTES_MAX = 128  # packed, of one reject: its numbers, and a few bytes before each text


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


def size_of(reject: Reject) -> int:
    """So many bytes it takes at most, packed."""
    texts = (reject.kind, reject.message, reject.sensor, reject.root)
    return (
        FIXED_BYTES_MAX + len(reject.key) + len(reject.raw) + UTF8_BYTES_MAX * sum(map(len, texts))
    )


def bounded(reject: Reject) -> Reject:
    """The same, at most ``REJECT_BYTES_MAX`` large: no frame would take more, and who cannot send a
    reject can send none after it. What is left out of an older log's, or of a quarantined record
    that no limit has seen, is told.
    """
    if size_of(reject) <= REJECT_BYTES_MAX:
        return reject
    raw = reject.raw if len(reject.raw) <= PAYLOAD_BYTES_MAX else b""
    left_out = f"its key ({len(reject.key)} bytes)"
    if raw != reject.raw:
        left_out += f" and its bytes ({len(reject.raw)})"
    why = f"{reject.message}; {left_out} over the limit and not kept"
    return msgspec.structs.replace(reject, key=b"", raw=raw, message=why)


class Reach(NamedTuple):
    """All rejects of a partition's generation below ``next_offset``."""

    partition: int
    generation: int
    next_offset: int


class Sent(msgspec.Struct, array_like=True, frozen=True):
    """What follows a head. ``reaches`` comes with whatever completes a position: up to where all
    rejects were sent, judged by the catalogue whose hash is ``catalogue``. ``in_doubt``: broker
    offsets that could not be read again, see ``operators/lost_rejects.py``.
    """

    rejects: list[Reject]
    reaches: tuple[Reach, ...] = ()
    catalogue: int = 0
    in_doubt: int = 0


class RejectHead(NamedTuple):
    """The 56 bytes before the rejects of one log position (or of a part of them).

    ``first`` is the index of the first reject within its position; ``last`` is 1 on the last chunk
    of that position. ``ingest`` in ns. ``after`` is the last position told before: positions with
    rejects are not contiguous, and a reader must see that one is missing. A progress head (``kind``
    2) has no rejects. Heads of ``kind`` 3 open a log: they stand at the position before its first
    and bring what is not known to be in the DLQ from before that log. ``catalogue`` is that of the
    log record: by what the records were judged; 0: not known.
    """

    source: int
    kind: int
    count: int  # type: ignore[assignment]  # shadows tuple.count: the format's own name
    log_id: int
    position: int
    first: int
    last: int
    ingest: int
    after: int = 0
    catalogue: int = 0

    def pack(self) -> bytes:
        """The head's 56 bytes."""
        return REJECT_HEAD.pack(self.source, self.kind, 0, *self[2:])

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> RejectHead:
        """The head back from its bytes; StateCorrupt when they are not a head."""
        if len(data) != REJECT_HEAD.size:
            raise StateCorrupt("read a reject head", f"{len(data)} bytes, not {REJECT_HEAD.size}")
        source, kind, _reserved, *rest = REJECT_HEAD.unpack(data)
        if kind not in {KIND_REJECTS, KIND_PROGRESS, KIND_BEFORE}:
            raise StateCorrupt("read a reject head", f"its kind {kind} is not 1, 2 or 3")
        return cls(source, kind, *rest)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Reject])
_sent_decoder = msgspec.msgpack.Decoder(Sent)


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


def pack_sent(sent: Sent) -> bytes:
    """Msgpack of what follows a head."""
    return _encoder.encode(sent)


def unpack_sent(data: bytes | memoryview) -> Sent:
    """It back; StateCorrupt when the bytes are not that."""
    try:
        return _sent_decoder.decode(data)
    except (msgspec.DecodeError, ValueError) as error:
        raise StateCorrupt("read rejects", str(error), "the frame is damaged") from error
