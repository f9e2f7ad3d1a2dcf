"""Errors sorted by what the catcher must do; each carries why and a hint. Not a place for logic.

Messages read ``cannot ACTION: WHY; HINT`` so that an operator at 02:00 knows the next step.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Process exit codes (SPEC 8), one closed list."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    INVALID = 3
    ALREADY_RUNNING = 4
    NOT_RUNNING = 5
    BUDGET_SPENT = 6
    CORRUPT = 7
    UNREACHABLE = 8
    REWIND = 9


class SdaError(Exception):
    """Base of every error a user or the supervisor may see: ``cannot action: why; hint``."""

    exit_code: ExitCode = ExitCode.INTERNAL

    def __init__(self, action: str, why: str, hint: str = "") -> None:
        self.action, self.why, self.hint = action, why, hint
        super().__init__(f"cannot {action}: {why}" + (f"; {hint}" if hint else ""))


class UsageError(SdaError):
    """The command was called wrongly."""

    exit_code = ExitCode.USAGE


class InvalidConfiguration(SdaError):
    """Refuse to start: the configuration is wrong. ``faults`` lists every fault found."""

    exit_code = ExitCode.INVALID

    def __init__(self, action: str, faults: Sequence[str], hint: str = "") -> None:
        self.faults = tuple(faults)
        super().__init__(action, "; ".join(self.faults), hint)


class AlreadyRunning(SdaError):
    """Another supervisor holds the state directory."""

    exit_code = ExitCode.ALREADY_RUNNING


class NotRunning(SdaError):
    """No supervisor answers for this state directory."""

    exit_code = ExitCode.NOT_RUNNING


class StateCorrupt(SdaError):
    """State on disk is damaged and cannot be repaired without a person."""

    exit_code = ExitCode.CORRUPT


class Unreachable(SdaError):
    """A broker or a store does not answer."""

    exit_code = ExitCode.UNREACHABLE


class Rewind(SdaError):
    """A gap or damage in memory between operators: the supervisor makes new rings and replays."""

    exit_code = ExitCode.REWIND


class Transient(SdaError):
    """Worth retrying inside a budget."""


class BrokerFull(Transient):
    """The embedded broker's map is full; it empties as the sources consume."""


_DISK_HINTS = {
    errno.ENOSPC: "free some space and start again: nothing that was acknowledged is lost",
    errno.EDQUOT: "raise the quota and start again: nothing that was acknowledged is lost",
    errno.EIO: "check the disk and its cable, then start again",
    errno.EROFS: "make the file system writable and start again",
}


def disk_fault(action: str, error: OSError) -> Unreachable | None:
    """A disk that is full or fails, as an error that stops the tree; None for any other error.

    Trying again cannot help: after a failed sync the page cache reports success without the data.
    """
    hint = _DISK_HINTS.get(error.errno or 0)
    if hint is None:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return Unreachable(action, f"{where}{error.strerror}", hint)
