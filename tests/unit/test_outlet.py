"""A source's frames on its ring: what was left out is left out to the end, so there is no gap."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from operators.core.batch import Built
from operators.outlet import Outlet
from sda_pipeline.limits import SECOND_NS


class Ring:
    """Takes frames while ``room`` lasts."""

    space_fd = -1

    def __init__(self, room: int) -> None:
        self.room, self.taken = room, list[int]()

    def try_publish(self, head: bytes, parts: Any, crc: int) -> bool:
        if not self.room:
            return False
        self.room -= 1
        self.taken.append(int(head))
        return True


class Worker:
    """Told to stop in its ``stop_at``-th wait; room for one more frame appears with ``room_at``."""

    def __init__(self, ring: Ring, stop_at: int = 0, room_at: int = 0) -> None:
        self.ring, self.stop_at, self.room_at = ring, stop_at, room_at
        self.stopping, self.waits = False, 0

    def output_to(self, target: str) -> Ring:
        assert target == "normalize"
        return self.ring

    def wait(self, timeout_s: float, fds: list[int]) -> None:
        self.waits += 1
        assert self.waits < 10
        self.stopping |= self.waits == self.stop_at
        self.ring.room += self.waits == self.room_at


def frame(number: int) -> Built:
    header = SimpleNamespace(pack=lambda: str(number).encode(), payload_crc=0)
    header.never_shed = lambda: header
    return Built(header, b"")  # type: ignore[arg-type]


class Log:
    """Records 1 to 5."""

    first = 1

    def records(self, first: int) -> Any:
        return (SimpleNamespace(header=frame(n).header, payload=b"") for n in range(first, 6))


def test_it_waits_for_room() -> None:
    ring = Ring(1)
    worker = Worker(ring, room_at=3)
    said: list[int] = []
    outlet = Outlet(worker, lambda: said.append(1))  # type: ignore[arg-type]
    assert not outlet.publish(frame(1))
    assert outlet.publish(frame(2))
    assert (ring.taken, worker.waits, len(said)) == ([1, 2], 3, 3)


def test_after_one_was_left_out_no_later_one_is_sent() -> None:
    ring = Ring(1)
    outlet = Outlet(Worker(ring, stop_at=1), lambda: None)  # type: ignore[arg-type]
    outlet.publish(frame(1))
    outlet.publish(frame(2))
    ring.room = 5
    outlet.publish(frame(3))
    assert ring.taken == [1]


@pytest.mark.parametrize("room", [0, 2])
def test_a_republication_that_was_cut_off_is_not_gone_on_with(room: int) -> None:
    ring = Ring(room)
    worker = Worker(ring, stop_at=1)
    outlet = Outlet(worker, lambda: None)  # type: ignore[arg-type]
    outlet.republish(Log(), applied=1)  # type: ignore[arg-type]
    ring.room = 9
    outlet.publish(frame(6))
    assert ring.taken == [2, 3][:room]


def test_told_to_stop_in_the_middle_of_a_republication() -> None:
    ring = Ring(9)
    worker = Worker(ring)
    worker.stopping = True
    outlet = Outlet(worker, lambda: None)  # type: ignore[arg-type]
    outlet.republish(Log(), applied=1)  # type: ignore[arg-type]
    outlet.publish(frame(6))
    assert ring.taken == []


class Busy(Ring):
    """Says how much of it is not released."""

    held = 0

    def occupied(self) -> int:
        return self.held


def test_what_is_lacking_and_not_on_its_way_is_sent_again_ever_more_patiently() -> None:
    ring = Busy(1000)
    outlet = Outlet(Worker(ring), lambda: None)  # type: ignore[arg-type]
    log = Log()
    log.end = 5  # type: ignore[attr-defined]
    times = [
        second
        for second in range(200)
        if outlet.resend(log, 3, second * SECOND_NS)  # type: ignore[arg-type]
    ]
    assert times == [10, 30, 70, 150]
    assert ring.taken == [4, 5] * len(times)


@pytest.mark.parametrize("why", ["it is applied", "it is on the ring", "there is progress"])
def test_nothing_is_sent_again_while(why: str) -> None:
    ring = Busy(1000)
    outlet = Outlet(Worker(ring), lambda: None)  # type: ignore[arg-type]
    log = Log()
    log.end = 500  # type: ignore[attr-defined]
    ring.held = 100 * (why == "it is on the ring")
    for second in range(200):
        applied = {"it is applied": 500, "there is progress": second}.get(why, 3)
        assert not outlet.resend(log, applied, second * SECOND_NS)  # type: ignore[arg-type]
    assert ring.taken == []
