"""What ``sda-reprocess`` prints, when whoever reads it may go away. Not what it says."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import click

from sda_pipeline.errors import SdaError


class ReaderGone(Exception):
    """Whoever read stdout has seen enough."""


@contextlib.contextmanager
def seen_enough() -> Iterator[None]:
    """Before click makes an exit code of its own of it."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone from error


class Speaker:
    """Prints what ``run`` tells. A reader of stdout that goes away ends a look, but never in
    silence a run.
    """

    def __init__(self, *, asks: bool, sends: bool) -> None:
        self._asks, self._sends, self._alone = asks, sends, False

    def tell(self, text: str) -> None:
        """The plan, before anything is done."""
        try:
            click.echo(text)
        except BrokenPipeError as error:
            if self._asks:
                why = "whoever reads its output went away and cannot be asked; nothing was sent"
                raise SdaError("re-inject", why, "give --yes, or read all of it") from error
            if not self._sends:
                raise
            self._alone = True
            silence_stdout()
            _aside("warning: whoever read the output went away; sending all the same")

    def end(self, text: str) -> None:
        """The last line, of what is done by now: to stderr when nobody reads stdout."""
        if self._alone:
            _aside(text)
            return
        try:
            click.echo(text)
        except BrokenPipeError:
            silence_stdout()
            _aside(text)


def _aside(text: str) -> None:
    with contextlib.suppress(OSError):  # stderr may have had the same reader
        click.echo(text, err=True)


def silence_stdout() -> None:
    """What is still in a buffer goes nowhere, instead of failing at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
