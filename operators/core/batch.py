"""One source batch: from reduced messages to a frame, its rejects and its counts. Pure."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.core.reduction import ReducedBatch
from operators.core.watermark import NONE, EventClock
from sda_pipeline.broker.port import Batch
from sda_pipeline.dlq.redrive_headers import read_headers, size_beside
from sda_pipeline.limits import MESSAGE_BYTES_MAX
from sda_pipeline.records.frames import FLAG_NEVER_SHED, Counts, Header, Part, build_payload
from sda_pipeline.records.rejects import Reject
from sda_pipeline.records.rows import ROW, Rows
from sda_pipeline.vocabulary import ErrorKind

EMPTY = Batch(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64), [], [], [])


class Built(NamedTuple):
    """A frame ready for the log and the ring."""

    header: Header
    payload: bytes


@dataclass(frozen=True, slots=True)
class Source:
    """What every frame of one source carries."""

    index: int
    log_id: int
    catalogue: int
    never_shed: bool
    log_first: int = 0  # see Header


def fitting(batch: Batch) -> tuple[Batch, int]:
    """The messages that are within the limit with their key and headers, and how many are not."""
    count, limit = len(batch.values), MESSAGE_BYTES_MAX
    if not count or (not batch.headers and _longest(batch.keys) + _longest(batch.values) <= limit):
        return batch, 0
    sizes = np.fromiter(map(len, batch.keys), np.int64, count)
    sizes += np.fromiter(map(len, batch.values), np.int64, count)
    if batch.headers:
        sizes += np.fromiter(map(size_beside, batch.headers), np.int64, count)
    fits = np.flatnonzero(sizes <= limit)
    return (batch, 0) if len(fits) == count else (take(batch, fits), count - len(fits))


def _longest(texts: list[bytes]) -> int:
    return max(map(len, texts))


def settle(
    batch: Batch, reduced: ReducedBatch, clock: EventClock, ingest_ns: int
) -> tuple[Rows, Counts]:
    """Fill the rows' coordinates, decide lateness in offset order; returns accepted rows and the
    counts.
    """
    rows = reduced.rows
    rows["offset"] = batch.offsets[reduced.index]
    rows["partition"] = batch.partitions[reduced.index]
    rows["ingest"] = ingest_ns
    late = clock.judge(rows["partition"], rows["t"])
    empty = sum(reason == "empty" for _, reason in reduced.discarded)
    counts = Counts(
        read=len(batch.values),
        rows=len(rows) - int(late.sum()),
        late=int(late.sum()),
        rejected=len(reduced.rejects),
        discarded_empty=empty,
        discarded_oversize=len(reduced.discarded) - empty,
    )
    return rows[~late], counts


def rejects_of(batch: Batch, reduced: ReducedBatch, generations: dict[int, int]) -> list[Reject]:
    """The rejected records with their coordinates and original bytes, in batch order."""
    found = []
    for rejected in sorted(reduced.rejects, key=lambda r: r.index):
        at, kind = rejected.index, rejected.kind
        generation = generations.get(int(batch.partitions[at]), 0)
        found.append(reject_at(batch, at, generation, kind, rejected.message, rejected.sensor))
    return found


def reject_at(
    batch: Batch, at: int, generation: int, kind: ErrorKind, message: str, sensor: str = ""
) -> Reject:
    """The message at index ``at`` of a batch as a reject."""
    root, attempts = read_headers(batch.headers[at] if batch.headers else ())
    return Reject(
        partition=int(batch.partitions[at]),
        generation=generation,
        offset=int(batch.offsets[at]),
        timestamp_ms=int(batch.timestamps_ms[at]),
        kind=str(kind),
        message=message,
        key=batch.keys[at] or b"",
        raw=batch.values[at],
        sensor=sensor,
        root=root,
        attempts=attempts,
    )


def build_frame(
    source: Source,
    kind: int,
    position: int,
    watermark: int,
    ingest_ns: int,
    parts: tuple[Part, ...],
    counts: Counts,
    rows: Rows | None = None,
) -> Built:
    """Header and payload of the frame at ``position``; ``counts`` are cumulative."""
    rows = np.empty(0, ROW) if rows is None else rows
    payload = build_payload(parts, counts, rows)
    header = Header(
        kind=kind,
        source=source.index,
        log_id=source.log_id,
        position=position,
        watermark=watermark,
        max_time=int(rows["t"].max()) if len(rows) else NONE,
        ingest=ingest_ns,
        catalogue=source.catalogue,
        rows=len(rows),
        logged=len(rows),
        length=len(payload),
        payload_crc=zlib.crc32(payload),
        parts=len(parts),
        frame_flags=FLAG_NEVER_SHED if source.never_shed else 0,
        log_first=source.log_first,
    )
    return Built(header, payload)


def take(batch: Batch, index: npt.NDArray[np.int64]) -> Batch:
    """The messages at ``index`` (m,), in that order."""
    at = index.tolist()
    return Batch(
        batch.partitions[index],
        batch.offsets[index],
        batch.timestamps_ms[index],
        [batch.keys[k] for k in at],
        [batch.values[k] for k in at],
        [batch.headers[k] for k in at] if batch.headers else [],
    )


def join(first: Batch, second: Batch) -> Batch:
    """Two batches as one, in order."""
    if not second.values:
        return first
    headers = [
        *(first.headers or [()] * len(first.values)),
        *(second.headers or [()] * len(second.values)),
    ]
    return Batch(
        np.concatenate((first.partitions, second.partitions)),
        np.concatenate((first.offsets, second.offsets)),
        np.concatenate((first.timestamps_ms, second.timestamps_ms)),
        [*first.keys, *second.keys],
        [*first.values, *second.values],
        headers if first.headers or second.headers else [],
    )
