"""Rejects as a source sends them, and a dlq-sink over real rings in this process. No test."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from operators import dlq_sink
from sda_pipeline.clock import ManualClock
from sda_pipeline.dlq.files import read_entries, read_marks
from sda_pipeline.dlq.marks import NOTHING
from sda_pipeline.errors import Rewind
from sda_pipeline.records.rejects import (
    KIND_BEFORE,
    KIND_PROGRESS,
    KIND_REJECTS,
    Reject,
    RejectHead,
    Sent,
    pack_sent,
)
from sda_pipeline.ring.endpoints import Consumer, Producer
from sda_pipeline.ring.memory import close_ring, create_ring
from tests.unit.alert_rig import T0
from tests.unit.sink_rig import FakeWorker, Kill, Killed, Words

LOG, CATALOGUE = 0xAA, 0xC0
SOURCES = ("radar", "optical")


def reject(offset: int, **changes: Any) -> Reject:
    """A reject at a broker offset of partition 0."""
    fields = {
        "partition": 0, "generation": 0, "offset": offset, "timestamp_ms": 5,
        "kind": "Deserialization",
        "message": "not JSON", "key": b"123", "raw": b"{%d" % offset, "sensor": "", "root": "",
        "attempts": 0,
    }  # fmt: skip
    return Reject(**{**fields, **changes})


def head(
    position: int,
    count: int,
    first: int = 0,
    *,
    last: bool = True,
    log_id: int = LOG,
    source: int = 0,
    after: int = 0,
) -> RejectHead:
    """The head of a chunk of rejects."""
    return RejectHead(
        source, KIND_REJECTS, count, log_id, position, first, int(last), T0, after, CATALOGUE
    )


def progress(position: int, *, log_id: int = LOG, source: int = 0, after: int = 0) -> RejectHead:
    """The head that says that all up to ``position`` was sent."""
    return RejectHead(source, KIND_PROGRESS, 0, log_id, position, 0, 1, T0, after)


def before(
    position: int, count: int = 0, first: int = 0, *, last: bool = True, log_id: int = LOG,
    source: int = 0,
) -> RejectHead:  # fmt: skip
    """A head that opens a log, whose first position is ``position + 1``."""
    return RejectHead(source, KIND_BEFORE, count, log_id, position, first, int(last), T0)


class LogRecord(NamedTuple):
    """The rejects of one position of a source's log; none for most."""

    position: int
    rejects: list[Reject]


class SourceSide:
    """A source's second cursor over its log, in chunks of two rejects."""

    def __init__(self, index: int, log: Sequence[LogRecord], log_id: int) -> None:
        self.index, self.log, self.log_id = index, log, log_id
        self.pending: list[tuple[RejectHead, list[Reject]]] = []
        self.lost: Sequence[Reject] = ()

    def start(self, dlq_done: int, lost: Sequence[Reject] | None) -> None:
        """What is to be sent after a start, from ``dlq_done + 1`` on. ``lost``: what went with the
        log before; None when the sink knows of this log.
        """
        self.pending = []
        named = {"log_id": self.log_id, "source": self.index}
        if lost is not None:
            base = self.log[0].position - 1 if self.log else 0
            for first in range(0, len(lost), 2):
                chunk = [*lost[first : first + 2]]
                self.pending.append((before(base, len(chunk), first, last=False, **named), chunk))
            self.pending.append((before(base, 0, len(lost), **named), []))
            dlq_done = base
        told = dlq_done
        for position, rejects in self.log:
            if position <= dlq_done:
                continue
            for first in range(0, len(rejects), 2):
                chunk, last = rejects[first : first + 2], first + 2 >= len(rejects)
                here = head(position, len(chunk), first, last=last, after=told, **named)
                self.pending.append((here, chunk))
            if not rejects:
                self.pending.append((progress(position, after=told, **named), []))
            told = position


class DlqRig:
    """Two sources and one dlq-sink."""

    def __init__(self, root: Path, capacity: int = 64 * 1024) -> None:
        specs = [SimpleNamespace(name=name, topic=f"sda.obs.{name}") for name in SOURCES]
        self.topology = SimpleNamespace(state=root, sources=SOURCES, operators=specs)
        self.board, self.clock = Words(), ManualClock(T0, 1)
        self.rings = {name: create_ring(name, capacity) for name in SOURCES}
        self.capacity = capacity
        self.sides: dict[str, SourceSide] = {}
        self.rewinds = 0
        self.last: FakeWorker | None = None

    @property
    def directory(self) -> Path:
        return self.topology.state / dlq_sink.DIRECTORY

    def start(
        self, name: str, log: Sequence[LogRecord], log_id: int = LOG, lost: Sequence[Reject] = ()
    ) -> None:
        """A source starts on its log; ``dlq_done`` of another log does not count."""
        known = read_marks(self.directory).get(name, NOTHING).log_id == log_id
        self.board.set(f"{name}.log_id", log_id)
        self.sides[name] = SourceSide(SOURCES.index(name), log, log_id)
        self.sides[name].lost = lost
        self.sides[name].start(self.board.get(f"{name}.dlq_done"), None if known else lost)

    def restart(self, name: str) -> None:
        side = self.sides[name]
        self.start(name, side.log, side.log_id, side.lost)

    def send(self) -> None:
        """Every source sends what fits."""
        for name, side in self.sides.items():
            producer = Producer(self.rings[name])
            while side.pending:
                told, rejects = side.pending[0]
                payload = pack_sent(Sent(rejects))
                if not producer.try_publish(told.pack(), (payload,), zlib.crc32(payload)):
                    break
                side.pending.pop(0)
            producer.close()

    def life(self, kill: Kill | None = None) -> bool:
        """One incarnation of the sink; False when it was killed or asked for a rewind."""
        inputs = {f"{name}->dlq-sink": Consumer(fds) for name, fds in self.rings.items()}
        worker = FakeWorker("dlq-sink", self.topology, self.board, self.clock, inputs, {}, kill)
        self.last = worker
        try:
            dlq_sink.run(worker)  # type: ignore[arg-type]
        except Killed:
            return False
        except Rewind:
            self.rewind()
            return False
        finally:
            for consumer in inputs.values():
                consumer.close()
        return True

    def rewind(self) -> None:
        self.rewinds += 1
        assert self.rewinds < 9, "it rewinds without end"
        for name in SOURCES:
            close_ring(self.rings[name])
            self.rings[name] = create_ring(name, self.capacity)
            for word in ("dlq_done", "dlq_log"):  # a rewind zeroes what the sink owns
                self.board.set(f"{name}.{word}", 0)
        self.life()
        for name in self.sides:
            self.restart(name)

    def settle(self) -> None:
        """Until every source's rejects are in the files."""
        for _ in range(200):
            self.send()
            self.life()
            done = {name: self.board.get(f"{name}.dlq_done") for name in self.sides}
            if all(not s.log or done[n] == s.log[-1].position for n, s in self.sides.items()):
                return
        raise AssertionError(f"it does not settle: {done}")

    def offsets(self, name: str) -> list[int]:
        """Broker offsets of a source's entries in the files, in their order."""
        return [e.offset for e in read_entries(self.directory) if e.operator == name]

    def close(self) -> None:
        for fds in self.rings.values():
            close_ring(fds)


@contextmanager
def open_dlq_rig(root: Path, capacity: int = 64 * 1024) -> Iterator[DlqRig]:
    """A rig whose rings are closed at the end."""
    rig = DlqRig(root, capacity)
    try:
        yield rig
    finally:
        rig.close()
