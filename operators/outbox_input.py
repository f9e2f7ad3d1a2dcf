"""The read step sink and subscriber share: outbox entries off a ring, by position. No effects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from operators.core.effects import change_of
from operators.core.outbox import KIND_HORIZON, NO_HORIZON, Place, place_of
from sda_pipeline.errors import Rewind, StateCorrupt
from sda_pipeline.limits import MIB
from sda_pipeline.records.alert import OUTBOX_HEAD, AlertRecord, Entry, parse_entry
from sda_pipeline.records.time_text import parse_time
from sda_pipeline.ring.endpoints import Consumer, Slot
from sda_pipeline.state.alert_log import raw_bodies
from sda_pipeline.state.alert_state import Change

# One batch is one transaction: enough entries to share its sync, few enough to keep its pause
# short.
BATCH_ENTRIES_MAX = 256
BATCH_BYTES_MAX = 1 * MIB


class Item(NamedTuple):
    """One entry taken apart: its change and its records' bytes, or the time closed through."""

    entry: Entry
    change: Change | None
    bodies: list[bytes]
    closed_ns: int


@dataclass
class Batch:
    """What one read found. ``end`` is where to release to; None when the ring was empty."""

    items: list[Item] = field(default_factory=list)
    end: int | None = None
    known: int = 0  # entries at or below the stored position, dropped
    horizons: list[int] = field(default_factory=list)  # gaps accepted, as announced


class OutboxInput:
    """The consumer of an outbox edge. ``horizon`` is the newest announced by the sink, if any."""

    def __init__(self, consumer: Consumer) -> None:
        self.ring = consumer
        self.horizon = NO_HORIZON

    def read(self, position: int) -> Batch:
        """The entries that follow the stored ``position``, up to a bound; nothing is released.

        Rewind on a gap or a damaged slot, StateCorrupt on an entry that is none.
        """
        batch, size = Batch(), 0
        entries: list[Entry] = []
        while (
            len(entries) < BATCH_ENTRIES_MAX
            and size < BATCH_BYTES_MAX
            and (slot := self.ring.read()) is not None
        ):
            batch.end = slot.end
            entry = self._next_entry(slot, position, batch)
            if entry is not None:
                entries.append(entry)
                position, size = entry.position, size + len(entry.body)
        batch.items = _parse(entries)
        return batch

    def _next_entry(self, slot: Slot, position: int, batch: Batch) -> Entry | None:
        here, kind, count = OUTBOX_HEAD.unpack(slot.head)
        if kind == KIND_HORIZON:
            self.horizon = here
            return None
        place = place_of(position, here)
        if place is Place.KNOWN:
            batch.known += 1
            return None
        if place is Place.GAP:
            if place_of(position, here, self.horizon) is Place.GAP:
                raise Rewind(
                    "take an outbox entry",
                    f"position {here:#x} does not follow {position:#x}",
                    "the supervisor makes new rings and the sender starts from its store",
                )
            batch.horizons.append(here)
        self.ring.verify(slot)
        return Entry(here, kind, count, bytes(slot.payload))


def _parse(entries: list[Entry]) -> list[Item]:
    parsed = [parse_entry(entry.kind, entry.body) for entry in entries]
    items = []
    for entry, content in zip(entries, parsed, strict=True):
        if isinstance(content, int):
            items.append(Item(entry, None, [], content))
        else:
            change = change_of(content, _closes(content[-1]) if content else 0)
            items.append(Item(entry, change, raw_bodies(entry.body), 0))
    return items


def _closes(record: AlertRecord) -> int:
    """When the alert closes, ns; StateCorrupt when the record says no time."""
    try:
        return parse_time(record.closes)
    except ValueError as error:
        raise StateCorrupt("read an outbox entry", f"closes: {error}") from error
