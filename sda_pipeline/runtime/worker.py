"""One operator process: descriptors, heartbeat, readiness, signals, log lines. No domain logic."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from sda_pipeline import failpoints
from sda_pipeline.clock import Clock, SystemClock
from sda_pipeline.errors import ExitCode, Rewind, SdaError, disk_fault
from sda_pipeline.ring.board import Board, board_words
from sda_pipeline.ring.endpoints import Consumer, Producer, wait
from sda_pipeline.ring.memory import RingFds
from sda_pipeline.runtime.launch import LEAVE, Launch
from sda_pipeline.topology import Topology, from_resolved_json
from sda_pipeline.vocabulary import Step

if TYPE_CHECKING:  # a forwarder never looks at rows and starts sooner without numpy
    from sda_pipeline.records.rows import Rows

_PR_SET_PDEATHSIG = 1


class Worker:
    """What an operator's loop may use: its rings, the board, the clock, and a way to say what it
    does.
    """

    def __init__(self, launch: Launch, clock: Clock) -> None:
        self.launch, self.clock = launch, clock
        self.name = launch.operator
        self.topology: Topology = from_resolved_json(Path(launch.topology).read_bytes())
        self.kind = self.topology.kind_of(self.name)
        names = tuple(spec.name for spec in self.topology.operators)
        self.board = Board.attach(launch.board, board_words(self.topology.sources, names))
        self.inputs = {edge: Consumer(RingFds(*fds)) for edge, fds in launch.inputs.items()}
        self.outputs = {edge: Producer(RingFds(*fds)) for edge, fds in launch.outputs.items()}
        self.stopping = False  # no more input will come: finish what is there
        self.leaving = False  # a successor will do the rest: finish what is in hand
        self._step: Step | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._words = tuple(f"{self.name}.{word}" for word in ("heartbeat", "step", "step_since"))

    @property
    def only_input(self) -> Consumer:
        """The ring of an operator that has one input."""
        (consumer,) = self.inputs.values()
        return consumer

    @property
    def only_output(self) -> Producer:
        """The ring of an operator that has one output."""
        (producer,) = self.outputs.values()
        return producer

    def output_to(self, target: str) -> Producer:
        """The ring of the edge that ends at ``target``."""
        return self.outputs[f"{self.name}->{target}"]

    def listen(self) -> None:
        """Turn SIGTERM into ``stopping`` and LEAVE into ``leaving``; a terminal's own signals are
        the supervisor's.
        """
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(LEAVE, self._on_signal)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def _on_signal(self, number: int, _frame: object) -> None:
        self.stopping = True
        self.leaving |= number == LEAVE

    def finished(self, drained: Callable[[], bool]) -> bool:
        """Whether it may end: told to leave, or to stop and nothing is left to do."""
        return self.leaving or (self.stopping and drained())

    def beat(self, step: Step) -> None:
        """Say that this process lives and what it is doing."""
        now = self.clock.monotonic_ns()
        heartbeat, word, since = self._words
        self.board.set(heartbeat, now)
        if step is not self._step:
            self.board.set(word, int(step))
            self._step = step
        self.board.set(since, now)

    def ready(self) -> None:
        """Tell the supervisor that every board word is re-published from disk. Once. From here on
        garbage is collected, of what is not loaded yet.
        """
        gc.freeze()
        gc.enable()
        self.fail("recovered")
        self.board.set(f"{self.name}.ready", 1)
        os.write(self.launch.ready, b"R")
        os.close(self.launch.ready)
        self.event("ready", incarnation=self.launch.incarnation)

    def wait(self, timeout_s: float, fds: Sequence[int] = (), *, step: Step = Step.WAIT) -> None:
        """Sleep until one of ``fds`` fires, a signal arrives, or the time is over."""
        self.beat(step)
        wait([*fds, self._wake_read], timeout_s)

    def fail(self, point: str) -> None:
        """A failpoint between two durable steps."""
        failpoints.hit(f"{self.name}.{point}")

    def armed(self, point: str) -> bool:
        """Whether a failpoint on observation ids is set here."""
        return failpoints.armed(f"{self.name}.{point}")

    def fail_rows(self, rows: Rows, point: str = "row") -> None:
        """A failpoint on one observation id."""
        failpoints.hit_rows(f"{self.name}.{point}", rows)

    def event(self, event: str, **fields: Any) -> None:
        """One JSON log line on stderr, which the supervisor keeps in ``logs/<operator>.jsonl``."""
        write_event(self.clock, self.name, event, fields)


def check_not_behind(
    worker: Worker, word: str, position: int, told_before: int | None = None
) -> None:
    """Rewind when the store just opened stands behind what it once reported on the board.

    Whoever sends has let go of what was reported; it starts again from what this store says.
    ``told_before``: what the word said, if it was put back since.
    """
    told = worker.board.get(word) if told_before is None else told_before
    if position < told:
        why = f"its store stands at {position:#x}, it had reported {word} {told:#x}"
        raise Rewind(f"go on as {worker.name}", why, "the supervisor restarts its senders")


def write_event(clock: Clock, operator: str, event: str, fields: dict[str, Any]) -> None:
    """Append one log event; the log is for people and never decides anything."""
    line = {"ts_ns": clock.wall_ns(), "operator": operator, "event": event, **fields}
    data = orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE)
    with contextlib.suppress(OSError):  # on a full disk the work goes on, as far as it can
        os.write(sys.stderr.fileno(), data)


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGKILL when the supervisor dies; leave at once if it already has."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise SdaError("follow the supervisor", f"prctl failed with errno {ctypes.get_errno()}")
    if os.getppid() != parent:
        sys.exit(ExitCode.INTERNAL)


def run_operator(launch: Launch, body: Callable[[Worker], None]) -> NoReturn:
    """Run one incarnation to its end and leave with the exit code that tells the supervisor what
    to do.
    """
    clock = SystemClock()
    die_with_parent(launch.parent)
    failpoints.set_incarnation(launch.incarnation)
    code = ExitCode.DONE
    try:
        worker = Worker(launch, clock)
        worker.listen()
        worker.beat(Step.START)
        body(worker)
        worker.event("stopped")
    except Exception as error:  # noqa: BLE001 - the last resort: say why; the supervisor decides
        code = _report(clock, launch.operator, error)
    sys.stderr.flush()
    os._exit(code)


def _report(clock: Clock, operator: str, error: Exception) -> ExitCode:
    """Log why an operator ends; the exit code says whether starting it again can help."""
    told = disk_fault(f"go on as {operator}", error) if isinstance(error, OSError) else error
    if isinstance(told, SdaError):
        fields: dict[str, Any] = {"error": str(told), "exit_code": int(told.exit_code)}
        write_event(clock, operator, "failed", fields)
        return told.exit_code
    trace = "".join(traceback.format_exception(error))
    fields = {"error": f"{type(error).__name__}: {error}", "traceback": trace}
    write_event(clock, operator, "crashed", fields)
    return ExitCode.INTERNAL
