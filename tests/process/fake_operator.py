"""An operator that speaks the launch protocol and does nothing else. Holds no test.

Arguments: name, script file, trace file, launch JSON. The script says what each incarnation does:
``{"correlator": {"1": ["ready", "exit 9"], "*": ["ready"]}}``; after its last command it waits to
be asked and leaves with 0. Every birth, readiness and death is a line of the trace. It imports
little, for a test starts many of them.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from sda_pipeline.ring.board import Board, board_words

START, WAIT, COMMIT = 0, 2, 5  # of vocabulary.Step
ASKED = {signal.SIGTERM, signal.SIGUSR1}  # to finish, or to leave (runtime/launch.py)


class FakeOperator:
    """One incarnation."""

    def __init__(self, script: Path, trace: Path, launch: dict[str, Any]) -> None:
        self.launch, self.name, self.trace = launch, launch["operator"], trace
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != launch["parent"]:
            sys.exit(1)
        lives = json.loads(script.read_text()).get(self.name, {})
        self.commands = lives.get(str(launch["incarnation"]), lives.get("*", ["ready"]))
        operators = json.loads(Path(launch["topology"]).read_text())["operators"]
        names = [operator["name"] for operator in operators]
        sources = [o["name"] for o in operators if o["kind"].endswith("-source")]
        self.board = Board.attach(launch["board"], board_words(sources, names))
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
        line = {"operator": self.name, "life": self.launch["incarnation"], "what": what, **fields}
        fd = os.open(self.trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, json.dumps(line).encode() + b"\n")
        os.close(fd)

    def beat(self, step: int) -> None:
        self.board.set(f"{self.name}.heartbeat", time.monotonic_ns())
        self.board.set(f"{self.name}.step", step)

    def run(self) -> None:
        """Obey the script, then wait to be asked."""
        blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ASKED))
        edges = {**self.launch["inputs"], **self.launch["outputs"]}
        rings = {edge: os.fstat(fds[0]).st_ino for edge, fds in edges.items()}
        self.tell("born", overlap=self.overlap, rings=rings, blocked=blocked)
        self.beat(START)
        for command in self.commands:
            getattr(self, f"do_{command.split()[0]}")(*command.split(" ", 1)[1:])
        while signal.sigtimedwait(ASKED, 0.1) is None:
            self.beat(WAIT)
        self.leave(0)

    def leave(self, code: int) -> None:
        self.tell("left", code=code)
        os._exit(code)

    # --- commands of a script ----------------------------------------------------------------

    def do_ready(self) -> None:
        self.tell("ready")
        os.write(self.launch["ready"], b"R")
        os.close(self.launch["ready"])

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
        """Stop beating for ever, in the middle of a step, deaf to what it is asked."""
        self.beat(COMMIT)
        while True:
            signal.pause()

    def do_slow(self, seconds: str) -> None:
        """Take so long to finish once asked to."""
        while signal.sigtimedwait(ASKED, 0.1) is None:
            self.beat(WAIT)
        self.tell("draining")
        time.sleep(float(seconds))
        self.leave(0)

    def do_set(self, text: str) -> None:
        """Write a board word: ``WORD VALUE``."""
        word, value = text.split()
        self.board.set(word, int(value))

    def do_publish(self, edge: str) -> None:
        """Leave one frame on the ring of an edge that nobody reads."""
        from sda_pipeline.ring.endpoints import Producer
        from sda_pipeline.ring.memory import RingFds

        assert Producer(RingFds(*self.launch["outputs"][edge])).try_publish(b"head", [b"body"], 0)

    def do_words(self, words: str) -> None:
        """Tell the values of board words."""
        self.tell("words", words={word: self.board.get(word) for word in words.split()})

    def do_wait(self, path: str) -> None:
        """Wait until a file is there."""
        while not self.trace.with_name(path).exists():
            self.beat(WAIT)
            time.sleep(0.01)


if __name__ == "__main__":
    _, _, script_path, trace_path, launch_text = sys.argv
    FakeOperator(Path(script_path), Path(trace_path), json.loads(launch_text)).run()
