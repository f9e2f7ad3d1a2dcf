"""Which entries of the DLQ are meant by the options of ``sda-reprocess``. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from sda_pipeline.dlq.entry import Entry

_MS_NS = 1_000_000


@dataclass(frozen=True)
class Filters:
    """Which entries are meant; all that are set must hold. Empty or None: no filter. Times in ns,
    of the rejection: from ``since_ns`` on, before ``until_ns``.
    """

    kinds: frozenset[str] = frozenset()
    operators: frozenset[str] = frozenset()
    since_ns: int | None = None
    until_ns: int | None = None

    def match(self, entry: Entry) -> bool:
        """Whether the entry is meant."""
        at = entry.timestamp_unix_ms * _MS_NS
        return (
            (not self.kinds or entry.error_kind in self.kinds)
            and (not self.operators or entry.operator in self.operators)
            and (self.since_ns is None or at >= self.since_ns)
            and (self.until_ns is None or at < self.until_ns)
        )
