"""Alert records and outbox entries: their bytes and their canonical form (SPEC 5). Not who decides
them.

An outbox entry is one ring slot, one transaction at sink and subscriber: either one record, a
retract +
insert pair, or ``closed_through``. Positions and sequences are both ``epoch << 32 | n``.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from sda_pipeline.errors import StateCorrupt

KIND_RECORDS, KIND_CLOSED = 1, 2
OUTBOX_HEAD = struct.Struct("<QII")  # position, kind, number of records
EPOCH_SHIFT = 32
NUMBER_MASK = (1 << EPOCH_SHIFT) - 1

INSERT, RETRACT = "insert", "retract"

# Left out of the canonical final: they tell of one run's history, not of the alert.
_HISTORY = ("sequence", "supersedes", "created", "ingest_ns", "reason")


class ObjectState(msgspec.Struct, frozen=True):
    """Fused state at ``tca`` in TEME (m, m/s) and the 21-term covariance in the object's own
    RTN.
    """

    pos_m: tuple[float, float, float]
    vel_m_s: tuple[float, float, float]
    cov: tuple[float, ...]


class AlertRecord(msgspec.Struct, frozen=True):
    """One record as sink and subscriber read it; a retract has no physics."""

    alert_id: str
    sequence: int
    action: str
    final: bool
    sat1: int
    sat2: int
    closes: str
    level: str | None = None
    supersedes: int | None = None
    reason: str | None = None
    tca: str | None = None
    miss_m: float | None = None
    rel_speed_m_s: float | None = None
    rel_pos_rtn_m: tuple[float, float, float] | None = None
    pc: float | None = None
    pc_method: str | None = None
    pc_flags: tuple[str, ...] = ()
    hbr_m: float | None = None
    mahalanobis: float | None = None
    pane: int | None = None
    n_obs1: int | None = None
    n_obs2: int | None = None
    created: str | None = None
    catalogue: str | None = None
    ingest_ns: int | None = None
    object1: ObjectState | None = None
    object2: ObjectState | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One outbox entry: where it stands, what it is, its JSON bytes."""

    position: int
    kind: int
    count: int
    body: bytes

    def head(self) -> bytes:
        """The 16 bytes before the body on a ring."""
        return OUTBOX_HEAD.pack(self.position, self.kind, self.count)

    def crc(self) -> int:
        """CRC-32 of the body, as a ring slot carries it."""
        return zlib.crc32(self.body)


def entry_of_records(position: int, records: list[dict[str, Any]]) -> Entry:
    """An entry of one record or a retract + insert pair."""
    return Entry(position, KIND_RECORDS, len(records), orjson.dumps(records))


def entry_of_closed(position: int, closed_ns: int) -> Entry:
    """``closed_through(C)``: every final it implies stands before it."""
    return Entry(position, KIND_CLOSED, 0, orjson.dumps({"closed_through_ns": closed_ns}))


_records_decoder = msgspec.json.Decoder(list[AlertRecord])
_closed_decoder = msgspec.json.Decoder(dict[str, int])


def parse_entry(kind: int, body: bytes | memoryview) -> list[AlertRecord] | int:
    """The records of an entry, or the closed-through time in ns; StateCorrupt on anything else."""
    try:
        if kind == KIND_RECORDS:
            return _records_decoder.decode(body)
        if kind == KIND_CLOSED:
            return _closed_decoder.decode(body)["closed_through_ns"]
    except (msgspec.MsgspecError, KeyError) as error:
        raise StateCorrupt("read an outbox entry", str(error)) from error
    raise StateCorrupt("read an outbox entry", f"kind {kind} is not known")


def raw_records(body: bytes) -> list[dict[str, Any]]:
    """The records of an entry as plain mappings, for storing and showing."""
    loaded: list[dict[str, Any]] = orjson.loads(body)
    return loaded


def canonical(record: dict[str, Any]) -> str:
    """The canonical final of SPEC 5: every field but the history, floats by ``repr``, keys
    sorted.
    """
    return repr(sorted((key, value) for key, value in record.items() if key not in _HISTORY))
