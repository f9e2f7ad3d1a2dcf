"""An operator that speaks the launch protocol and does nothing else. Holds no test.

Arguments: name, script file, trace file, launch JSON. The script says what each incarnation does:
``{"correlator": {"1": ["ready", "exit 9"], "*": ["ready"]}}``; after its last command it waits for
SIGTERM and leaves with 0. Every birth, readiness and death is a line of the trace.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import sys
from pathlib import Path

from sda_pipeline.clock import SystemClock
from sda_pipeline.ring.board import Board, board_words
from sda_pipeline.ring.endpoints import Producer
from sda_pipeline.ring.memory import RingFds
from sda_pipeline.runtime.launch import Launch
from sda_pipeline.topology import from_resolved_json
from sda_pipeline.vocabulary import Step

CLOCK = SystemClock()


class FakeOperator:
    """One incarnation."""

    def __init__(self, script: Path, trace: Path, launch: Launch) -> None:
        self.launch, self.name, self.trace = launch, launch.operator, trace
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != launch.parent:
            sys.exit(1)
        lives = json.loads(script.read_text()).get(self.name, {})
        self.commands = lives.get(str(launch.incarnation), lives.get("*", ["ready"]))
        topology = from_resolved_json(Path(launch.topology).read_bytes())
        self.board = Board.attach(launch.board, board_words(topology.sources, topology.names))
        self.overlap = self._locked()

    def _locked(self) -> bool:
        """Whether another incarnation of this operator lives: each holds a lock all its life."""
        self._lock = os.open(self.trace.with_name(f"{self.name}.life"), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False

    def tell(self, what: str, **fields: object) -> None:
        """One line of the trace, whole by O_APPEND."""
        line = {"operator": self.name, "life": self.launch.incarnation, "what": what, **fields}
        fd = os.open(self.trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, json.dumps(line).encode() + b"\n")
        os.close(fd)

    def beat(self, step: Step) -> None:
        self.board.set(f"{self.name}.heartbeat", CLOCK.monotonic_ns())
        self.board.set(f"{self.name}.step", int(step))

    def run(self) -> None:
        """Obey the script, then wait for SIGTERM."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        fds = {
            edge: ring[0] for edge, ring in {**self.launch.inputs, **self.launch.outputs}.items()
        }
        rings = {edge: os.fstat(fd).st_ino for edge, fd in fds.items()}
        self.tell("born", overlap=self.overlap, rings=rings, pid=os.getpid())
        self.beat(Step.START)
        for command in self.commands:
            getattr(self, f"do_{command.split()[0]}")(*command.split(" ", 1)[1:])
        while signal.sigtimedwait({signal.SIGTERM}, 0.1) is None:
            self.beat(Step.WAIT)
        self.leave(0)

    def leave(self, code: int) -> None:
        self.tell("left", code=code)
        os._exit(code)

    # --- commands of a script ----------------------------------------------------------------

    def do_ready(self) -> None:
        self.tell("ready")
        os.write(self.launch.ready, b"R")
        os.close(self.launch.ready)

    def do_exit(self, code: str) -> None:
        self.leave(int(code))

    def do_refuse(self, text: str) -> None:
        """Leave like an operator that will not start: ``CODE cannot ...``."""
        code, error = text.split(" ", 1)
        print(json.dumps({"event": "failed", "error": error}), file=sys.stderr, flush=True)
        self.leave(int(code))

    def do_print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def do_kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def do_hang(self) -> None:
        """Stop beating for ever, in the middle of a step, deaf to SIGTERM."""
        self.beat(Step.COMMIT)
        while True:
            signal.pause()

    def do_slow(self, seconds: str) -> None:
        """Take so long to finish once asked to."""
        while signal.sigtimedwait({signal.SIGTERM}, 0.1) is None:
            self.beat(Step.WAIT)
        self.tell("draining")
        CLOCK.sleep(float(seconds))
        self.leave(0)

    def do_set(self, text: str) -> None:
        """Write a board word: ``WORD VALUE``."""
        word, value = text.split()
        self.board.set(word, int(value))

    def do_publish(self, edge: str) -> None:
        """Leave one frame on the ring of an edge that nobody reads."""
        assert Producer(RingFds(*self.launch.outputs[edge])).try_publish(b"head", [b"body"], 0)

    def do_words(self, words: str) -> None:
        """Tell the values of board words."""
        self.tell("words", words={word: self.board.get(word) for word in words.split()})

    def do_wait(self, path: str) -> None:
        """Wait until a file is there."""
        while not self.trace.with_name(path).exists():
            self.beat(Step.WAIT)
            CLOCK.sleep(0.01)


if __name__ == "__main__":
    _, _, script_path, trace_path, launch_text = sys.argv
    FakeOperator(Path(script_path), Path(trace_path), Launch.from_json(launch_text)).run()
