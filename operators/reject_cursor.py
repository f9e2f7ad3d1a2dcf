"""A source's second cursor over its log: rejects to the dlq-sink, never blocking the first. Not
the log itself.
"""

from __future__ import annotations

import zlib
from collections import deque

from operators.core.spans import reaches_of
from operators.lost_rejects import LostRejects
from sda_pipeline.limits import DLQ_PROGRESS_EVERY_S, REJECT_CHUNK_BYTES, SECOND_NS
from sda_pipeline.log.source_log import Record, SourceLog
from sda_pipeline.records.frames import parse_payload
from sda_pipeline.records.rejects import (
    KIND_BEFORE,
    KIND_PROGRESS,
    KIND_REJECTS,
    Reach,
    Reject,
    RejectHead,
    Sent,
    bounded,
    pack_sent,
    size_of,
    unpack_rejects,
)
from sda_pipeline.ring.board import Board
from sda_pipeline.runtime.worker import Worker


def dlq_done(board: Board, source: str, log_id: int) -> int:
    """Up to where the DLQ holds this log's rejects; 0 while the board speaks of another log.

    A sink that starts again says how far it has come in the log it knows, which may be an older
    one. Whose it is must be read first: the sink writes it last.
    """
    about = board.get(f"{source}.dlq_log")
    done = board.get(f"{source}.dlq_done")
    return done if about == log_id else 0


class RejectCursor:
    """Sends what lies above ``dlq_done``, in order, as far as the ring has room.

    ``lost`` comes first: what was before the log and the dlq-sink is not known to have.
    """

    def __init__(
        self, worker: Worker, source: int, log: SourceLog, dlq_done: int, lost: LostRejects | None
    ) -> None:
        self._board, self._name = worker.board, worker.name
        self._ring = worker.output_to("dlq-sink")
        self._source, self._log, self._lost = source, log, lost
        self._waiting = deque(log.reject_positions(max(dlq_done + 1, log.first)))
        self._found: list[Reject] = []  # of ``lost``, not sent yet
        self._next_index = 0  # first entry of the first waiting position not sent yet
        self._told = log.first - 1 if lost else dlq_done  # newest position the dlq-sink was told of
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
        ``hurry``. While the dlq-sink does not say that it has all it was told of, it is told again:
        were that frame lost, nothing else would show the gap.
        """
        if self._lost is not None and not self._send_lost(self._lost, ingest_ns):
            return
        while self._waiting:
            if not self._send_position(self._waiting[0], ingest_ns):
                return
            self._told, self._told_at = self._waiting.popleft(), now_ns
        due = now_ns - self._told_at >= DLQ_PROGRESS_EVERY_S * SECOND_NS
        unheard = due and dlq_done(self._board, self._name, self._log.log_id) < self._told
        if unheard or ((due or hurry) and self._log.end > self._told):
            self._send_progress(now_ns, ingest_ns)

    def _send_progress(self, now_ns: int, ingest_ns: int) -> None:
        end = self._log.end
        record = self._log.last()
        sent = Sent([], *_standing(record)) if record else Sent([])
        if self._publish(KIND_PROGRESS, end, 0, sent, ingest_ns, last=True):
            self._told, self._told_at = end, now_ns

    def _send_lost(self, lost: LostRejects, ingest_ns: int) -> bool:
        """Send what one look at the broker finds; True when that was all and the log is open."""
        if not self._found:
            found = lost.next()
            if found is None:
                sent = Sent([], lost.reaches, lost.catalogue, lost.in_doubt)
                if self._publish_before(sent, ingest_ns, last=True):
                    self._lost, self._next_index = None, 0
                return self._lost is None
            self._found = found
        while self._found:
            chunk = _chunk(self._found, 0)
            if not self._publish_before(Sent(chunk), ingest_ns, last=False):
                return False
            del self._found[: len(chunk)]
            self._next_index += len(chunk)
        return False

    def _publish_before(self, sent: Sent, ingest_ns: int, *, last: bool) -> bool:
        position = self._log.first - 1
        catalogue = self._lost.catalogue if self._lost is not None else 0
        return self._publish(
            KIND_BEFORE, position, self._next_index, sent, ingest_ns, last=last, catalogue=catalogue
        )

    def _send_position(self, position: int, ingest_ns: int) -> bool:
        """Send the remaining chunks of one record; False when the ring is full."""
        record = self._log.read(position)
        entries = unpack_rejects(record.rejects)
        while self._next_index < len(entries):
            chunk = _chunk(entries, self._next_index)
            after = self._next_index + len(chunk)
            last = after == len(entries)
            sent = Sent(chunk, *_standing(record)) if last else Sent(chunk)
            if not self._publish(
                KIND_REJECTS, position, self._next_index, sent, ingest_ns, last=last,
                catalogue=record.header.catalogue,
            ):  # fmt: skip
                return False
            self._next_index = after
        self._next_index = 0
        return True

    def _publish(
        self, kind: int, position: int, first: int, sent: Sent, ingest_ns: int, *, last: bool,
        catalogue: int = 0,
    ) -> bool:  # fmt: skip
        """Put one frame on the ring; False when it is full."""
        head = RejectHead(
            self._source, kind, len(sent.rejects), self._log.log_id, position, first, int(last),
            ingest_ns, self._told, catalogue,
        )  # fmt: skip
        payload = pack_sent(sent)
        return self._ring.try_publish(head.pack(), (payload,), zlib.crc32(payload))


def _standing(record: Record) -> tuple[tuple[Reach, ...], int]:
    """Up to where the rejects are sent with this record, and which catalogue judged them."""
    frame = parse_payload(record.header, record.payload)
    return reaches_of(frame.parts), record.header.catalogue


def _chunk(entries: list[Reject], first: int) -> list[Reject]:
    """As many entries from ``first`` as a ring slot should hold, at least one."""
    chunk: list[Reject] = []
    size = 0
    for entry in map(bounded, entries[first:]):
        size += size_of(entry)
        if chunk and size > REJECT_CHUNK_BYTES // 2:
            break
        chunk.append(entry)
    return chunk
