"""A real pipeline with one rule broken on purpose: the negative controls of the crash tests.

``python -m tests.process.broken_pipeline start RULE TOPOLOGY`` runs the real supervisor over the
real operators, patched; ``operator RULE NAME LAUNCH`` is what it spawns. Not a test itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import SdaError
from sda_pipeline.runtime.launch import Launch, RunFlags


def release_before_commit() -> None:
    """The correlator releases its input as soon as it is read."""
    from operators import correlator

    read = correlator._Loop.read

    def broken(self: Any) -> Any:
        slots = read(self)
        if slots:
            self.input.release(slots[-1].end)
        return slots

    correlator._Loop.read = broken


def dedup_off() -> None:
    """Sink and subscriber take every entry for the next one and every record for news."""
    from operators import alert_sink, outbox_input
    from operators.core import effects
    from operators.core.outbox import Place
    from sda_pipeline.state import subscriber_store

    def everything_is_next(*_: Any) -> Place:
        return Place.NEXT

    def everything_is_news(*_: Any) -> effects.Verdict:
        return effects.Verdict.ACCEPTED

    outbox_input.place_of = everything_is_next
    effects.judge = alert_sink.judge = everything_is_news
    # Its unique indexes are the last line of defence: off as well, or the fault would only crash.
    tables = tuple(line for line in subscriber_store._SCHEMA if "UNIQUE" not in line)
    subscriber_store._SCHEMA = tables


def emission_before_commit() -> None:
    """The correlator publishes what it has not stored yet, and may die in between."""
    from operators import checkpoint, correlator

    commit, begin = checkpoint.Checkpoints.commit, correlator._Loop.__init__
    loops: list[Any] = []

    def remember(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        loops.append(self)

    def broken(self: Any, core: Any, effects: Any, sink_pos: int, inside: Any) -> Any:
        loops[0].unpublished.extend(self._number(effects))
        loops[0].publish()
        return commit(self, core, effects, sink_pos, inside)

    correlator._Loop.__init__ = remember
    checkpoint.Checkpoints.commit = broken


def nothing() -> None:
    """Every rule is kept: the control of the controls."""


RULES: dict[str, Callable[[], None]] = {
    "nothing": nothing,
    "release_before_commit": release_before_commit,
    "dedup_off": dedup_off,
    "emission_before_commit": emission_before_commit,
}


def start(rule: str, topology: str) -> None:
    """The supervisor, spawning operators of this module; exits with its code."""
    from sda_pipeline.topology import load_topology
    from supervisor.runner import Options
    from supervisor.session import run_session

    def command(name: str) -> list[str]:
        return [sys.executable, "-m", "tests.process.broken_pipeline", "operator", rule, name]

    options = Options(RunFlags(end_of_input=True))
    try:
        run_session(load_topology(Path(topology)), options, SystemClock(), print, command)
    except SdaError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def operator(rule: str, text: str) -> None:
    """One operator process with the rule broken."""
    from operators.registry import loop_of
    from sda_pipeline.runtime.worker import run_operator

    RULES[rule]()
    run_operator(Launch.from_json(text), lambda worker: loop_of(worker.kind)(worker))


if __name__ == "__main__":
    if sys.argv[1] == "start":
        start(sys.argv[2], sys.argv[3])
    else:
        operator(sys.argv[2], sys.argv[4])
