"""Stop signals as readable bytes for the event loop, so that none is lost between two waits."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """While it lives, stop signals go to ``receive``; ``close`` gives them back."""

    def __init__(
        self, selector: selectors.BaseSelector, receive: Callable[[signal.Signals], None]
    ) -> None:
        self._selector, self._receive = selector, receive
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._handlers = {n: signal.signal(n, lambda *_: None) for n in STOP_SIGNALS}
        selector.register(self._read, selectors.EVENT_READ, self._on_bytes)

    def _on_bytes(self) -> None:
        for number in os.read(self._read, 64):
            if number in STOP_SIGNALS:
                self._receive(signal.Signals(number))

    def close(self) -> None:
        """Restore what was there before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._before)
        self._selector.unregister(self._read)
        os.close(self._read)
        os.close(self._write)
