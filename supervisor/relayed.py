"""Errors whose words come from elsewhere: from an operator's log, or over the control socket."""

from __future__ import annotations

from collections.abc import Sequence

from sda_pipeline.errors import ExitCode, SdaError


class Relayed(SdaError):
    """A finished ``cannot ...`` line with its exit code, and lines of detail below it."""

    def __init__(self, text: str, code: int, details: Sequence[str] = ()) -> None:
        Exception.__init__(self, text)
        self.action = self.why = self.hint = ""
        self.exit_code = ExitCode(code)
        self.details = tuple(details)
