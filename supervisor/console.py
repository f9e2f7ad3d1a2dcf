"""What ``start`` prints while it runs: one short line per decision a person cares about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supervisor.events import Event
from supervisor.members import Note

Say = Callable[[str], None]
_Fields = dict[str, Any]


def line_of(note: Note, width: int) -> str | None:
    """The line for a note, None when it is for the log only. ``width`` is the longest name's."""
    text = _TEXTS[note.event](note.fields) if note.event in _TEXTS else None
    operator = note.fields.get("operator")
    return f"  {operator:<{width}}  {text}" if operator and text else text


def _ready(fields: _Fields) -> str:
    again = f", life {fields['incarnation']}" if fields["incarnation"] > 1 else ""
    return f"ready    pid {fields.get('pid', '-'):<8} {fields['seconds']:6.2f} s{again}"


def _killing(fields: _Fields) -> str | None:
    return f"killing {', '.join(fields['operators'])}" if fields["operators"] else None


_TEXTS: dict[Event, Callable[[_Fields], str | None]] = {
    Event.READY: _ready,
    Event.DIED: lambda f: None if f["asked"] else f"died: {f['why']}",
    Event.SUSPECT: lambda _: "looks for the record it dies of",
    Event.QUARANTINED: lambda f: (
        f"record quarantined: {f['source']}, partition {f['partition']}, offset {f['offset']}"
    ),
    Event.BACKOFF: lambda f: f"comes back in {f['seconds']:.2f} s",
    Event.SPAWN_FAILED: lambda f: f"cannot be started: {f['why']}",
    Event.SLOW: lambda f: f"no sign of life for {f['seconds']:.0f} s in {f['step']}",
    Event.HUNG: lambda f: f"hangs in {f['step']}, killed",
    Event.OVERDUE: lambda _: "did not finish in time, killed",
    Event.REWIND: lambda f: f"asks for a rewind of {', '.join(f['operators'])}",
    Event.RESTART_ASKED: lambda f: "restart asked for" + (" (kill)" if f["kill"] else ""),
    Event.RUNNING: lambda _: "running; Ctrl-C drains",
    Event.DRAINING: lambda f: "draining; Ctrl-C again kills" if f["within_s"] else "stopping now",
    Event.KILLING: _killing,
    Event.COMPLETE: lambda _: "complete: all input is delivered",
}
