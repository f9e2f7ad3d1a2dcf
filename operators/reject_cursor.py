"""A source's second cursor over its log: rejects to the dlq-sink, never blocking the first. Not
the log itself.
"""

from __future__ import annotations

import zlib
from collections import deque

from sda_pipeline.limits import DLQ_PROGRESS_EVERY_S, REJECT_CHUNK_BYTES, SECOND_NS
from sda_pipeline.log.source_log import SourceLog
from sda_pipeline.records.rejects import (
    KIND_PROGRESS,
    KIND_REJECTS,
    Reject,
    RejectHead,
    pack_rejects,
    unpack_rejects,
)
from sda_pipeline.ring.board import Board
from sda_pipeline.ring.endpoints import Producer


def dlq_done(board: Board, source: str, log_id: int) -> int:
    """Up to where the DLQ holds this log's rejects; 0 while the board speaks of another log.

    A sink that starts again says how far it has come in the log it knows, which may be an older
    one. Whose it is must be read first: the sink writes it last.
    """
    about = board.get(f"{source}.dlq_log")
    done = board.get(f"{source}.dlq_done")
    return done if about == log_id else 0


class RejectCursor:
    """Sends what lies above ``dlq_done``, in order, as far as the ring has room."""

    def __init__(self, source: int, log: SourceLog, ring: Producer, dlq_done: int) -> None:
        self._source, self._log, self._ring = source, log, ring
        self._waiting = deque(log.reject_positions(max(dlq_done + 1, log.first)))
        self._next_index = 0  # first entry of the first waiting position not sent yet
        # Newest position the dlq-sink was told of. A log made anew that is still empty tells where
        # it begins: the sink may know of no log at all, and nothing else would move its mark.
        anew = log.end < log.first and log.first > 1
        self._told = dlq_done - 1 if anew else dlq_done
        self._told_at = 0

    def logged(self, position: int) -> None:
        """A record with rejects was appended and synced."""
        self._waiting.append(position)

    @property
    def behind(self) -> bool:
        """Whether rejects wait for room in the ring."""
        return bool(self._waiting)

    def send(self, now_ns: int, ingest_ns: int, *, hurry: bool = False) -> None:
        """Send what fits, then a progress frame at the log's end, at most one a second unless
        ``hurry``.
        """
        while self._waiting:
            if not self._send_position(self._waiting[0], ingest_ns):
                return
            self._told = self._waiting.popleft()
        due = hurry or now_ns - self._told_at >= DLQ_PROGRESS_EVERY_S * SECOND_NS
        if due and self._log.end > self._told:
            head = RejectHead(
                self._source, KIND_PROGRESS, 0, self._log.log_id, self._log.end, 0, 1, ingest_ns
            )
            if self._ring.try_publish(head.pack(), (), zlib.crc32(b"")):
                self._told, self._told_at = self._log.end, now_ns

    def _send_position(self, position: int, ingest_ns: int) -> bool:
        """Send the remaining chunks of one record; False when the ring is full."""
        record = self._log.read(position)
        entries = unpack_rejects(record.rejects)
        while self._next_index < len(entries):
            chunk = _chunk(entries, self._next_index)
            after = self._next_index + len(chunk)
            head = RejectHead(
                self._source, KIND_REJECTS, len(chunk), self._log.log_id, position,
                self._next_index, int(after == len(entries)), ingest_ns,
                catalogue=record.header.catalogue,
            )  # fmt: skip
            payload = pack_rejects(chunk)
            if not self._ring.try_publish(head.pack(), (payload,), zlib.crc32(payload)):
                return False
            self._next_index = after
        self._next_index = 0
        return True


def _chunk(entries: list[Reject], first: int) -> list[Reject]:
    """As many entries from ``first`` as a ring slot should hold, at least one."""
    chunk, size = [entries[first]], len(entries[first].raw)
    for entry in entries[first + 1 :]:
        size += len(entry.raw) + len(entry.message)
        if size > REJECT_CHUNK_BYTES // 2:
            break
        chunk.append(entry)
    return chunk
