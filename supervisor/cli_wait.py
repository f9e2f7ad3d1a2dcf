"""``sda-supervisor wait``: return when what was accepted before the call is safe elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import NotRunning, SdaError, Unreachable, UsageError
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.vocabulary import RemoteFault
from supervisor import horizons
from supervisor.control import ask
from supervisor.options import Duration, state_of, state_option
from supervisor.session import resolved_topology

_ACTION = "wait for the remote"
_LOOK_EVERY_S = 0.2
_TELL_EVERY_NS = SECOND_NS


@click.command()
@state_option
@click.option(
    "--remote-durable",
    is_flag=True,
    help="Until a remote snapshot covers everything accepted before this call.",
)
@click.option(
    "--timeout", "timeout_s", type=Duration(), default="5m", show_default=True, help="Give up then."
)
def wait(state: Path | None, remote_durable: bool, timeout_s: float) -> None:
    """Wait until what a running pipeline has accepted is safe elsewhere.

    A record counts as accepted when it is in its source's log. The next snapshot takes it in, the
    upload carries it away: that takes up to 'checkpoint.every_s' and the time of an upload.

    What is there then is what the correlator made of it, and where to go on at the broker. The
    bytes of rejected records (dlq/) and quarantine.jsonl are not uploaded: after the loss of this
    disk they are fetched from the broker again, as far as it still has them.
    """
    if not remote_durable:
        raise UsageError("wait", "nothing to wait for is named", "add --remote-durable")
    directory = state_of(state)
    first = ask(directory, "board", _ACTION)
    topology = resolved_topology(directory)
    if topology.s3 is None:
        hint = "add 'checkpoint: s3:' to the topology and start again"
        raise UsageError(_ACTION, "the pipeline has none", hint)
    wanted = _wait(directory, first, topology.sources, timeout_s)
    positions = ", ".join(f"{source} {target.log_end}" for source, target in wanted.items())
    click.echo(f"remote-durable: {positions}")


def _wait(
    directory: Path, first: Mapping[str, Any], sources: Sequence[str], timeout_s: float
) -> dict[str, horizons.Target]:
    """Until what is accepted now is there; returns what that was.

    Now is when every source has said where it stands: while it starts, or is rewound, it has not.
    """
    clock = SystemClock()
    started = told_at = clock.monotonic_ns()
    before, words = first["words"], first["words"]
    wanted: dict[str, horizons.Target] | None = None
    while True:
        answer = ask(directory, "board", _ACTION)
        before, words = words, answer["words"]
        if answer["supervisor_pid"] != first["supervisor_pid"]:
            raise NotRunning(_ACTION, "the pipeline was started anew meanwhile", "ask again")
        wanted = wanted or horizons.targets(before, words, sources)
        if wanted is not None and (anew := horizons.replaced(words, wanted)):
            why = f"the log of {', '.join(anew)} was made anew meanwhile"
            raise SdaError(_ACTION, why, "ask again")
        missing = horizons.behind(words, wanted) if wanted is not None else None
        if wanted is not None and not missing:
            return wanted
        now = clock.monotonic_ns()
        if now - started >= timeout_s * SECOND_NS:
            raise _too_late(words, missing, timeout_s)
        if now - told_at >= _TELL_EVERY_NS:
            told_at = now
            click.echo(f"waiting: {_told(missing)}", err=True)
        clock.sleep(_LOOK_EVERY_S)


def _told(missing: Mapping[str, int] | None) -> str:
    if missing is None:
        return "not every source is ready"
    return ", ".join(f"{source} lacks {count} positions" for source, count in missing.items())


def _too_late(
    words: Mapping[str, int], missing: Mapping[str, int] | None, timeout_s: float
) -> SdaError:
    """Unreachable when the store is at fault, else a plain error."""
    why = f"after {timeout_s:g} s {_told(missing)}"
    fault, hint = RemoteFault(words["upload_fault"]), "see 'sda-supervisor logs replicator'"
    if fault is RemoteFault.NONE:
        return SdaError(_ACTION, why, f"wait longer, or {hint}")
    return Unreachable(_ACTION, f"{why}; the last upload failed: {fault.name.lower()}", hint)
