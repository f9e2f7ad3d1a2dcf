"""The shape of whatever takes log events, for code below the worker. Not the writing of them."""

from __future__ import annotations

from typing import Protocol


class Report(Protocol):
    """Takes one log event: a decision, never an observation."""

    def __call__(self, event: str, **fields: object) -> None: ...
