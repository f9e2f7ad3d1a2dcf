"""Values of the supervisor's core: one operator as seen from outside, and the actions to be done.

No decisions: those are in tree.py.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

from sda_pipeline.errors import ExitCode
from sda_pipeline.topology import OperatorSpec
from supervisor.events import Event
from supervisor.policy import Deaths
from supervisor.states import State


@dataclass(frozen=True)
class Spawn:
    """Start the operator's next incarnation."""

    name: str
    incarnation: int


@dataclass(frozen=True)
class Send:
    """Send a signal to the living incarnation."""

    name: str
    signum: signal.Signals


@dataclass(frozen=True)
class Rewire:
    """All of these are dead: put their words back, make new rings between them."""

    operators: frozenset[str]


@dataclass(frozen=True)
class Note:
    """Tell the log and the user."""

    event: Event
    fields: dict[str, Any]


Action = Spawn | Send | Rewire | Note


@dataclass(frozen=True)
class Outcome:
    """Why the tree was stopped when nobody asked for it."""

    code: ExitCode
    operator: str
    why: str


@dataclass
class Member:
    """One operator as the supervisor sees it. Times are monotonic ns."""

    spec: OperatorSpec
    deaths: Deaths
    state: State = State.DOWN
    incarnation: int = 0
    spawned_at: int = 0
    ready_at: int | None = None
    not_before: int = 0
    finish_by: int | None = None  # asked to finish by then
    asked: bool = False  # the coming death was asked for
    hung_in: str = ""
    last_exit: str = ""
    progress: int = 0  # as of the last death

    @property
    def restarts(self) -> int:
        return max(0, self.incarnation - 1)
