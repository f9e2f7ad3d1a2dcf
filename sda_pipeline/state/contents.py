"""What the correlator's store holds and what one transaction changes, as plain values. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from sda_pipeline.records.alert import Entry
from sda_pipeline.state.seal import Seal

FORMAT_VERSION = 2  # 1 had no seal; the first commit adds it


class Meta(msgspec.Struct, kw_only=True):
    """Facts about the store itself. The fields after ``epoch_due`` came with format version 2."""

    format_version: int = FORMAT_VERSION
    catalogue: int = 0
    epoch: int = 0
    outbox_end: int = 0  # position of the newest outbox entry ever
    outbox_deleted: int = 0  # newest entry deleted because the sink holds it
    closed_to: int = 0  # ns
    snapshot: int = 0  # sequence of the snapshot this store was restored from, 0 for none
    epoch_due: bool = False  # just restored: nothing may be emitted before the epoch is raised
    rung: str = ""  # of the recovery ladder, from which it was
    dlq_done: dict[str, tuple[int, int]] = {}  # by source: log id and position the DLQ had reached
    epoch_id: int = 0  # drawn at random with the epoch; 0: a release began it that drew none


@dataclass
class Changes:
    """One transaction's worth of changes. Values are already bytes."""

    rows: list[tuple[tuple[str, int], bytes]] = field(default_factory=list)
    rows_gone: list[tuple[str, int]] = field(default_factory=list)
    positions: dict[str, bytes] = field(default_factory=dict)
    alerts: dict[str, bytes] = field(default_factory=dict)
    alerts_gone: list[str] = field(default_factory=list)
    outbox: list[Entry] = field(default_factory=list)
    outbox_gone_through: int = 0
    meta: Meta | None = None


class Contents(NamedTuple):
    """Everything of one moment, values still encoded; of the retained rows only their bytes.

    ``seal`` is what was committed, None in a store of format version 1; ``found`` is what a look at
    every value says instead.
    """

    meta: Meta
    positions: dict[str, bytes]
    alerts: dict[str, bytes]
    outbox: list[Entry]
    rows: dict[tuple[str, int], int]
    seal: Seal | None
    found: Seal
