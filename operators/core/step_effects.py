"""What one step of the correlator wants stored and published. Plain values, no decisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from operators.core.alerts import AlertState

RowKey = tuple[str, int]  # (source name, position)


@dataclass
class Effects:
    """What one step wants stored and published, in this order."""

    rows: list[tuple[RowKey, bytes]] = field(default_factory=list)
    rows_gone: list[RowKey] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)
    alerts: dict[str, AlertState] = field(default_factory=dict)
    alerts_gone: list[str] = field(default_factory=list)
    emitted: list[list[dict[str, Any]] | int] = field(default_factory=list)  # records or closed C
    closed_to: int | None = None
