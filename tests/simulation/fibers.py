"""Coroutines for code that blocks inside nested calls: a thread each, one of them runs at a time.

An operator's loop runs here unchanged; where it would block or might be interrupted it pauses, and
the scheduler resumes whom it likes. The baton makes the order a function of the scheduler alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ClassVar


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, and what it unwinds touches no durable thing."""


class _Carrier(threading.Thread):
    """A thread that carries one fiber after the other: making one costs more than a switch."""

    idle: ClassVar[list[_Carrier]] = []

    def __init__(self) -> None:
        super().__init__(daemon=True, name="fiber")
        self.go, self.back = threading.Lock(), threading.Lock()
        self.go.acquire()
        self.back.acquire()
        self.fiber: Fiber | None = None
        self.start()

    def run(self) -> None:
        while True:
            self.go.acquire()
            assert self.fiber is not None
            self.fiber.carry()
            self.fiber = None
            self.idle.append(self)
            self.back.release()


class Fiber:
    """One incarnation's flow of control. ``done`` once its body returned, raised or was killed."""

    def __init__(self, body: Callable[[], None]) -> None:
        self._body = body
        self._carrier: _Carrier | None = None
        self._killed = False
        self.done = False
        self.error: BaseException | None = None

    def resume(self) -> None:
        """Run it until it pauses or ends. Called by the scheduler."""
        assert not self.done
        if self._carrier is None:
            self._carrier = _Carrier.idle.pop() if _Carrier.idle else _Carrier()
            self._carrier.fiber = self
        carrier = self._carrier
        carrier.go.release()
        carrier.back.acquire()

    def pause(self) -> None:
        """Give the baton back. Called by the body; raises Killed when that is how it goes on."""
        carrier = self._carrier
        assert carrier is not None
        if not self._killed:
            carrier.back.release()
            carrier.go.acquire()
        if self._killed:
            raise Killed

    def kill(self) -> None:
        """End it wherever it stands. Called by the scheduler; nothing when it has ended."""
        if self.done:
            return
        self._killed = True
        if self._carrier is None:
            self.done, self.error = True, Killed()
        else:
            self.resume()
            assert self.done, "a killed body ends at once"

    def carry(self) -> None:
        try:
            self._body()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the scheduler looks at it
            self.error = error
        self.done = True
