"""Real source loops on a clock moved by hand: a scripted broker, real logs and rings. No tests.

Every duration costs nothing: waiting moves the clock. The correlator's core reads the rings, so
that a scenario sees when an alert becomes final.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from operators.core.batch import Built, Source
from operators.core.reduction import Reducer
from operators.source import SourceLoop
from operators.source_open import Opened
from sda_pipeline.astro.trajectory import Trajectory
from sda_pipeline.clock import ManualClock
from sda_pipeline.errors import Transient, Unreachable
from sda_pipeline.limits import LOG_BYTES_MAX, SECOND_NS
from sda_pipeline.log.source_log import LogStart, SourceLog, read_log
from sda_pipeline.records.frames import Counts, parse_header, parse_payload
from sda_pipeline.records.rejects import Reject, unpack_rejects
from sda_pipeline.ring.endpoints import Consumer, Producer
from sda_pipeline.ring.memory import RingFds, close_ring, create_ring
from sda_pipeline.runtime.audit_log import Rules, Standing, walk
from sda_pipeline.runtime.launch import RunFlags
from sda_pipeline.settings import ISL, EventTime, Physics
from tests.scenarios.inline_pipeline import CATALOGUE_HASH, InlineCorrelator, World
from tests.scenarios.lateness_script import encounter, world
from tests.scenarios.scripted_broker import BEGIN_S, ScriptedConsumer, Topic, Window, wall
from tests.unit.sink_rig import Words

MAX_LATENESS_S, ALLOWED_S, IDLE_AFTER_S = 1.0, 5.0, 2.0
RING_BYTES = 1 << 20
SILENCE_S = 0.05  # how long an answer is waited for that does not come


class Killed(BaseException):
    """Stands for SIGKILL."""


class JammableProducer(Producer):
    """A ring that is full while it is jammed."""

    stage: Stage

    def try_publish(self, head: bytes, payload: Any, payload_crc: int) -> bool:
        return not self.stage.is_jammed and super().try_publish(head, payload, payload_crc)


class StageWorker:
    """What a source's loop sees of its process."""

    kind = "isl-source"
    stopping = False

    def __init__(self, name: str, stage: Stage, outputs: Mapping[str, Producer]) -> None:
        self.name, self.stage, self.outputs = name, stage, outputs
        self.clock, self.topology, self.board = stage.clock, stage.topology, stage.board
        self.launch = SimpleNamespace(flags=RunFlags(), suspect=False)

    def output_to(self, target: str) -> Producer:
        return self.outputs[target]

    def wait(self, timeout_s: float, fds: object = (), *, step: object = None) -> None:
        self.stage.pass_time(timeout_s)

    def beat(self, step: object) -> None:
        pass

    def fail(self, point: str) -> None:
        if self.stage.dies == (self.name, point, self.stage.loops[self.name].log.end):
            raise Killed

    def fail_rows(self, rows: object) -> None:
        pass

    def event(self, event: str, **fields: Any) -> None:
        self.stage.events.append((self.name, event, fields))


class Stage:
    """The clock, the broker, the sources' files and rings, the correlator's core."""

    def __init__(
        self, root: Path, topics: dict[str, Topic], *, idle_after_s: float | None = IDLE_AFTER_S,
        physics: Physics | None = None,
    ) -> None:  # fmt: skip
        self.topics, self.root = topics, root
        times = EventTime(idle_after_s, ALLOWED_S, {"isl": MAX_LATENESS_S})
        base = world()
        self.world = World(base.catalogue, base.sensors, physics or base.physics, times)
        self.clock = ManualClock(wall(BEGIN_S), SECOND_NS)
        self.board = Words()
        self.topology = SimpleNamespace(
            state=root, sources=tuple(topics), event_time=times, disk_reserve_bytes=0,
            log_retention_s=3600.0, log_bytes_max=LOG_BYTES_MAX, s3=None,
        )  # fmt: skip
        self.away: list[Window] = []  # of the broker: calls hang
        self.refusing: list[Window] = []  # of the broker: calls fail, as the embedded one's do
        self.silent: list[Window] = []  # of the broker: calls fail, as Kafka's do
        self.jammed: list[Window] = []  # the rings are full
        self.stops: list[Window] = []  # SIGSTOP and SIGCONT, of every source
        self.dies: tuple[str, str, int] | None = None  # source, failpoint, at this log end
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self.correlator = InlineCorrelator(self.world, [*topics])
        self.final_at: dict[str, float] = {}  # alert -> when its final was emitted
        self.loops: dict[str, SourceLoop] = {}
        self._rings: dict[str, dict[str, RingFds]] = {}
        self._readers: dict[str, dict[str, Consumer]] = {}
        self._applied: dict[str, int] = dict.fromkeys(topics, 0)
        for name in topics:
            self._rings[name] = {
                target: create_ring(f"{name}->{target}", RING_BYTES)
                for target in ("normalize", "dlq-sink")
            }
            self._readers[name] = {t: Consumer(fds) for t, fds in self._rings[name].items()}
            self.start(name)

    # --- time -----------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        return (self.clock.wall_ns() - encounter().tca_ns) / SECOND_NS

    @property
    def is_jammed(self) -> bool:
        return any(window.begin_s <= self.now_s < window.end_s for window in self.jammed)

    def pass_time(self, seconds: float) -> None:
        """Wait; whoever reads the rings does so meanwhile."""
        self.clock.sleep(seconds)
        self.read_rings()

    def reach_broker(self) -> None:
        """Return when the broker answers. Unreachable while it refuses, Transient if silent."""
        for window in self.away:
            if window.begin_s <= self.now_s < window.end_s:
                self.pass_time(window.end_s - self.now_s)
        if any(window.begin_s <= self.now_s < window.end_s for window in self.refusing):
            raise Unreachable("ask the broker", "it does not answer")
        if any(window.begin_s <= self.now_s < window.end_s for window in self.silent):
            self.pass_time(SILENCE_S)
            raise Transient("ask the broker", "it does not answer")

    # --- sources --------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """A new incarnation of a source, from its log."""
        directory, number = self.root / name, [*self.topics].index(name)
        log = SourceLog.open(directory, number, LogStart(number + 1, 1))
        last = log.last()
        frame = parse_payload(last.header, bytes(last.payload)) if last else None
        opened = Opened(
            log, frame.parts if frame else (), frame.counts if frame else Counts(),
            ScriptedConsumer(self.topics[name], self), log.end,
        )  # fmt: skip
        outputs = {target: JammableProducer(fds) for target, fds in self._rings[name].items()}
        for producer in outputs.values():
            producer.stage = self
        worker = StageWorker(name, self, outputs)
        reducer = Reducer(
            ISL, self.world.catalogue, Trajectory(self.world.catalogue), self.world.sensors,
            self.world.physics,
        )  # fmt: skip
        source = Source(number, log.log_id, CATALOGUE_HASH, never_shed=False)
        loop = self.loops[name] = SourceLoop(worker, opened, reducer, source)  # type: ignore[arg-type]
        loop.resume(opened.parts, opened.counts)
        loop.outlet.republish(loop.log, self._applied[name])

    def run(self, until_s: float) -> None:
        """Let the sources take turns until this time."""
        while self.now_s < until_s:
            for name in self.topics:
                try:
                    self.loops[name].turn()
                except (Killed, Unreachable):
                    self.dies = None
                    self.pass_time(1.0)  # the supervisor's backoff, and the start
                    self._restart(name)
            for window in [w for w in self.stops if w.begin_s <= self.now_s]:
                self.stops.remove(window)
                self.clock.sleep(window.end_s - self.now_s)
            self.read_rings()

    def _restart(self, name: str) -> None:
        while True:
            self.loops[name].log.close()
            try:
                return self.start(name)
            except Unreachable:
                self.pass_time(1.0)

    def read_rings(self) -> None:
        """The correlator applies what is there."""
        for name, readers in self._readers.items():
            frames = []
            for head, payload in _drained(readers["normalize"]):
                header = parse_header(head)
                if header.position == self._applied[name] + 1:
                    self._applied[name] += 1
                    frames.append((name, Built(header, payload)))
            if frames:
                self.correlator.step(frames)
            for _ in _drained(readers["dlq-sink"]):
                pass
        for alert_id in self.correlator.finals:
            self.final_at.setdefault(alert_id, self.now_s)

    # --- what came of it ------------------------------------------------------------------------

    def counts(self, name: str = "east") -> Counts:
        return self.loops[name].counts

    def watermark_s(self, name: str = "east", partition: int | None = None) -> float:
        """Of a partition, or of the source."""
        clock = self.loops[name].clock
        mark = clock.source_watermark() if partition is None else clock.watermarks[partition]
        return (mark - encounter().tca_ns) / SECOND_NS

    def standings(self, name: str = "east") -> list[Standing]:
        """What the log says after each record, audited."""
        log = read_log(self.root / name)
        limits = (round(MAX_LATENESS_S * SECOND_NS), round(ALLOWED_S * SECOND_NS))
        rules = Rules(name, [*self.topics].index(name), ISL, *limits, gapless=True)
        faults: list[str] = []
        everything = {*range(1, log.end + 1)}
        walked = walk(log, rules, everything, lambda _header, _rejects: None, faults.append)
        assert not faults, faults
        return [*walked.at.values()]

    def rejects(self, name: str = "east") -> list[Reject]:
        log = read_log(self.root / name)
        return [r for record in log.records(1) for r in unpack_rejects(record.rejects)]

    def close(self) -> None:
        for name, rings in self._rings.items():
            for target, fds in rings.items():
                self._readers[name][target].close()
                close_ring(fds)
        for loop in self.loops.values():
            loop.log.close()


def _drained(consumer: Consumer) -> Iterator[tuple[bytes, bytes]]:
    while (slot := consumer.read()) is not None:
        yield bytes(slot.head), bytes(slot.payload)
        consumer.release(slot.end)


@contextmanager
def staged(root: Path, topics: dict[str, Topic], **options: Any) -> Iterator[Stage]:
    """A stage whose rings are closed at the end."""
    stage = Stage(root, topics, **options)
    try:
        yield stage
    finally:
        stage.close()
