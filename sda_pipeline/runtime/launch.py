"""What the supervisor hands an operator at birth: one JSON argument. Not the operator's own
logic.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

import msgspec

LEAVE = signal.SIGUSR1  # from the supervisor: finish what is in hand, a successor does the rest


@dataclass(frozen=True)
class RunFlags:
    """How this run ends and whether rows may be shed."""

    end_of_input: bool = False
    until_idle: bool = False
    accept_catalogue: bool = False
    allow_fresh: bool = False  # a new store may begin though a remote is configured

    @property
    def finite(self) -> bool:
        """Frames of such a run are never shed."""
        return self.end_of_input or self.until_idle


@dataclass(frozen=True)
class Launch:
    """One incarnation of one operator. All descriptors are inherited.

    ``inputs`` and ``outputs`` map an edge name ("radar->normalize") to [memory, data, space]
    descriptors.
    """

    operator: str
    topology: str  # path of <state>/topology.json
    parent: int  # pid of the supervisor; compared with getppid
    incarnation: int  # 1 for the first life
    board: int
    ready: int  # write end of a pipe: one byte when recovered and listening
    inputs: dict[str, list[int]] = field(default_factory=dict)
    outputs: dict[str, list[int]] = field(default_factory=dict)
    flags: RunFlags = RunFlags()
    suspect: bool = False  # its predecessors died twice at one batch, which comes first now

    def to_json(self) -> str:
        """The command-line argument."""
        return msgspec.json.encode(self).decode()

    @staticmethod
    def from_json(text: str) -> Launch:
        """Read it back; msgspec.ValidationError on anything else."""
        return msgspec.json.decode(text, type=Launch)

    def descriptors(self) -> tuple[int, ...]:
        """Every descriptor the child must inherit."""
        rings = [fd for ring in (*self.inputs.values(), *self.outputs.values()) for fd in ring]
        return (self.board, self.ready, *rings)
