"""Reading the logs of operators: the last lines, the last error, what is written from now on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sda_pipeline.clock import Clock
from sda_pipeline.limits import KIB
from sda_pipeline.records.time_text import format_time

TAIL_BYTES_MAX = 256 * KIB
_POLL_S = 0.2
_STAMP = re.compile(r'\{"ts_ns":(\d{1,19}),', re.ASCII)  # how worker.write_event begins a line


def tail(path: Path, lines: int, offset: int = 0) -> list[str]:
    """At most the last ``lines`` whole lines after byte ``offset``; empty when there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = max(offset, size - TAIL_BYTES_MAX)
            file.seek(start)
            data = file.read(TAIL_BYTES_MAX)
    except OSError:
        return []
    found = data.decode(errors="replace").splitlines()
    if start > offset:
        found = found[1:]  # cut in the middle
    return found[-lines:] if lines else []


def readable(line: str) -> str:
    """An operator's event with its time as the supervisor's log has it: so two can be compared."""
    match = _STAMP.match(line)
    if match is None:
        return line
    return f'{{"at":"{format_time(int(match[1]))[:23]}Z",{line[match.end() :]}'


def last_error(path: Path, offset: int) -> str | None:
    """The ``error`` of the last JSON event that has one, after byte ``offset``."""
    for line in reversed(tail(path, 1000, offset)):
        try:
            event = msgspec.json.decode(line)
        except msgspec.MsgspecError:
            continue
        if isinstance(event, dict) and isinstance(event.get("error"), str):
            return str(event["error"])
    return None


def follow(path: Path, lines: int, clock: Clock) -> Iterator[str]:
    """The last ``lines``, then every new whole line; without end."""
    yield from tail(path, lines)
    rest = b""
    with path.open("rb") as file:
        file.seek(0, 2)
        while True:
            data = file.read(TAIL_BYTES_MAX)
            if not data:
                clock.sleep(_POLL_S)
                continue
            *whole, rest = (rest + data).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
