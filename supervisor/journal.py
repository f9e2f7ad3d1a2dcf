"""The supervisor's own log, ``logs/supervisor.jsonl``: one JSON line per decision. For people."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from sda_pipeline.clock import Clock
from supervisor.events import Event


class Journal:
    """Append-only. A line that cannot be written stops nothing; ``fault`` says why."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.fault: OSError | None = None

    def note(self, event: Event, **fields: Any) -> None:
        """One line: time, event, fields."""
        line = {"at": stamp(self._clock.wall_ns()), "event": event.value, **fields}
        try:
            os.write(self._fd, msgspec.json.encode(line) + b"\n")
        except OSError as error:
            self.fault = error

    def close(self) -> None:
        os.close(self._fd)


def stamp(wall_ns: int) -> str:
    """UTC as RFC 3339 with milliseconds, for people."""
    moment = datetime.fromtimestamp(wall_ns / 1e9, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
