"""Command-line options several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sda_pipeline.errors import UsageError
from sda_pipeline.topology import load_topology

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNITS = {None: 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
TOPOLOGY_FILE = Path("topology.yaml")
Command = TypeVar("Command", bound=Callable[..., Any])


class Duration(click.ParamType):  # type: ignore[type-arg]
    """``60s``, ``5m``, ``1h``, ``500ms`` or plain seconds."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        match = _DURATION.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration; write 60s, 5m or 1h", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


def state_option(command: Command) -> Command:
    """``--state DIR`` of every command that works on a pipeline."""
    return click.option(
        "--state",
        type=click.Path(path_type=Path),
        help="State directory of the pipeline (default: 'state' of ./topology.yaml).",
    )(command)


def state_of(state: Path | None) -> Path:
    """The absolute state directory meant by the option, or by the topology in this directory."""
    if state is not None:
        return state.resolve()
    if not TOPOLOGY_FILE.exists():
        why = f"there is no {TOPOLOGY_FILE} in {Path.cwd()}"
        raise UsageError("tell which pipeline is meant", why, "give --state DIR")
    return load_topology(TOPOLOGY_FILE).state
