"""Find the record that kills: try records one by one in a child that may die. Changes nothing else.

The child is a copy of the process (fork): it may change whatever it likes in memory and touches no
file, ring or board. So a kill from outside, which hits the process itself, never makes an innocent
record look deadly; only the child's own death does.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from sda_pipeline.clock import Clock
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.runtime.parent import die_with_parent

BEAT_EVERY_S = 0.5
_BEGUN = b"."  # written before each record; then, if it raises, what it raised
_REASON_BYTES_MAX = 1000
_READ_BYTES = 65536


class Killer(NamedTuple):
    """The record (its number) that the child did not survive, and how it died."""

    number: int
    why: str


def first_killer(
    count: int,
    attempt: Callable[[int], None],
    clock: Clock,
    *,
    prepare: Callable[[], None] = lambda: None,
    beat: Callable[[], None] = lambda: None,
    within_s: float,
) -> Killer | None:
    """``attempt(0)`` to ``attempt(count - 1)`` in a child; the one it dies in, None if in none.

    It dies by a signal, by any exception, or by spending more than ``within_s`` on one record.
    A child that dies in ``prepare``, before the first record, accuses nobody. ``beat`` is called at
    least every half a second. OSError when the system cannot fork.
    """
    receive, send = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        os.close(receive)
        os.close(send)
        raise
    if pid == 0:
        _child(parent, send, count, attempt, prepare)
    os.close(send)
    try:
        told = _listen(receive, pid, clock, beat, within_s)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(receive)
        _, status = os.waitpid(pid, 0)
    begun, _, raised = told.partition(b"\n")
    code = os.waitstatus_to_exitcode(status)
    if code == 0 or not begun:
        return None
    return Killer(len(begun) - 1, raised.decode("utf-8", "replace") or _ended_by(code))


def _listen(
    receive: int, pid: int, clock: Clock, beat: Callable[[], None], within_s: float
) -> bytes:
    """All that child ``pid`` writes until its end; it is killed when silent for too long."""
    told = b""
    poller = select.poll()
    poller.register(receive, select.POLLIN)
    heard_at = clock.monotonic_ns()
    while True:
        ready = poller.poll(BEAT_EVERY_S * 1000)
        beat()
        now = clock.monotonic_ns()
        if ready:
            data = os.read(receive, _READ_BYTES)
            if not data:
                return told
            told, heard_at = told + data, now
        elif now - heard_at > within_s * SECOND_NS:
            os.kill(pid, signal.SIGKILL)
            return told + f"\nits probe hung for {within_s:g} s".encode()


def _child(
    parent: int,
    send: int,
    count: int,
    attempt: Callable[[int], None],
    prepare: Callable[[], None],
) -> NoReturn:
    """Never returns into the parent's code, whatever happens."""
    code = 1
    try:
        die_with_parent(parent)
        prepare()
        for number in range(count):
            os.write(send, _BEGUN)
            attempt(number)
        code = 0
    except BaseException as error:  # noqa: BLE001 - what it is, is the finding
        reason = f"\n{type(error).__name__}: {error}".encode(errors="replace")
        os.write(send, reason[:_REASON_BYTES_MAX])
    finally:
        os._exit(code)


def _ended_by(code: int) -> str:
    """A child's end in words."""
    if code >= 0:
        return f"its probe ended with exit code {code}"
    return f"its probe was killed by {signal.Signals(-code).name}"
