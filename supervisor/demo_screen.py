"""Where a demo is shown: a live table on a terminal, else plain lines. Decides no content."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live

from supervisor.demo_news import Line, plain_line
from supervisor.demo_view import Frame

NO_CURSOR = {"", "dumb", "unknown"}  # terminals that cannot go back a line


class PlainScreen:
    """One line per effect on stdout, progress on stderr.

    ``gone`` becomes true when nobody reads stdout any more; nothing is raised.
    """

    live = False

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out, self._err = out, err
        self.gone = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def say(self, text: str) -> None:
        """Progress, for a person who waits."""
        try:
            print(text, file=self._err, flush=True)
        except OSError:
            self._err = _nowhere()

    note = say  # what happens beside the alerts

    def show(self, lines: Iterable[Line]) -> None:
        """Effects as they come."""
        self.print(plain_line(line) for line in lines)

    def print(self, lines: Iterable[str]) -> None:
        """Lines of the result."""
        for line in lines:
            try:
                print(line, file=self._out, flush=True)
            except OSError:
                self.reader_left()

    def draw(self, frame: Frame) -> None:
        """Nothing: lines are all there is."""

    def close(self) -> None:
        """Nothing is left open."""

    def reader_left(self) -> None:
        """Stdout leads nowhere from now on, so that its last flush does not fail either."""
        self.gone = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())


class LiveScreen(PlainScreen):
    """A table that is redrawn in place; what was there last stays when it is closed."""

    live = True

    def __init__(self, out: TextIO) -> None:
        super().__init__(out, out)
        self._console = Console(file=out, force_terminal=True, highlight=False)
        self._live: Live | None = None
        self._notes: list[str] = []

    def show(self, lines: Iterable[Line]) -> None:
        """They are in the next frame."""

    def note(self, text: str) -> None:
        """Below the table."""
        self._notes.append(text)

    def draw(self, frame: Frame) -> None:
        """Replace the last frame."""
        frame.notes = self._notes
        try:
            if self._live is None:
                self._live = Live(
                    console=self._console, auto_refresh=False, redirect_stdout=False,
                    redirect_stderr=False, vertical_overflow="crop",
                )  # fmt: skip
                self._live.start()
            self._live.update(frame, refresh=True)
        except OSError:  # the terminal is closed
            self.reader_left()

    def close(self) -> None:
        """Leave the last frame and give the cursor back."""
        if self._live is not None:
            live, self._live = self._live, None
            try:
                live.stop()
            except OSError:
                self.reader_left()


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - until the process ends


def can_redraw(stdout: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether stdout is a terminal on which a table can be redrawn."""
    return stdout.isatty() and environment.get("TERM", "") not in NO_CURSOR


def open_screen(*, plain: bool) -> PlainScreen:
    """The live table where it can be, unless plain lines are wanted."""
    if not plain and can_redraw(sys.stdout, os.environ):
        return LiveScreen(sys.stdout)
    return PlainScreen(sys.stdout, sys.stderr)
