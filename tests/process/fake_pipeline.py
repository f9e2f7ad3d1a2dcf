"""A supervisor over scripted operators: the process ``python fake_pipeline.py ...`` and its driver.

No test in here. As a program it is ``sda-supervisor start`` with another operator command, and with
``--control NAME`` with one rule broken on purpose.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import SdaError
from sda_pipeline.runtime.launch import LEAVE, RunFlags
from sda_pipeline.topology import load_topology
from supervisor.control import ask
from supervisor.members import Action, Send
from supervisor.runner import Options, Runner
from supervisor.session import run_session
from supervisor.tree import Tree

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

TOPOLOGY = """
pipeline: fake
state: state
subscriber: {{path: subscriber}}
broker: embedded:broker
catalogue: catalogue.tle
sensors: sensors.yaml
limits: {{{limits}}}
operators:
  - {{name: radar, kind: radar-source, topic: a, restart: {{{restart}}}}}
  - {{name: optical, kind: optical-source, topic: b, restart: {{{restart}}}}}
  - {{name: normalize, inputs: [radar, optical], restart: {{{restart}}}}}
  - {{name: prioritize, inputs: [normalize], restart: {{{restart}}}}}
  - {{name: correlator, inputs: [prioritize], restart: {{{restart}}}}}
  - {{name: alert-sink, inputs: [correlator], restart: {{{restart}}}}}
  - {{name: subscriber, inputs: [alert-sink], restart: {{{restart}}}}}
  - {{name: dlq-sink, inputs: [radar, optical], restart: {{{restart}}}}}
  - {{name: replicator, restart: {{{restart}}}}}
edges:
  radar->normalize: {{capacity: 5 MiB}}
  optical->normalize: {{capacity: 5 MiB}}
  normalize->prioritize: {{capacity: 5 MiB}}
  prioritize->correlator: {{capacity: 5 MiB}}
  correlator->alert-sink: {{capacity: 1 MiB}}
  alert-sink->subscriber: {{capacity: 1 MiB}}
  radar->dlq-sink: {{capacity: 5 MiB}}
  optical->dlq-sink: {{capacity: 5 MiB}}
"""

DELIVERED = {  # what operators that have delivered everything say on the board
    source: {"*": ["ready", f"set {source}.lag 0", f"set {source}.ended 1"]}
    for source in ("radar", "optical")
}


class FakePipeline:
    """One state directory, its script and trace, and the supervisor that runs on them."""

    def __init__(self, root: Path) -> None:
        self.root, self.state, self.trace_file = root, root / "state", root / "trace"
        self.process: subprocess.Popen[str] | None = None
        (root / "catalogue.tle").write_text("")
        (root / "sensors.yaml").write_text("")
        self.write()

    def write(self, *, limits: str = "", restart: str = "backoff_s: 0.02") -> None:
        (self.root / "topology.yaml").write_text(TOPOLOGY.format(limits=limits, restart=restart))

    def start(self, script: dict[str, Any] | None = None, *options: str) -> subprocess.Popen[str]:
        (self.root / "script").write_text(json.dumps(script or {}))
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(self.root), *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
            start_new_session=True,
        )  # fmt: skip
        return self.process

    def end(self, within_s: float = 15) -> tuple[int, str, str]:
        """Wait for the supervisor's own end: exit code, stdout, stderr."""
        assert self.process is not None
        out, err = self.process.communicate(timeout=within_s)
        return self.process.returncode, out, err

    def cli(
        self, *arguments: str, check: bool = True, stdout: Any = subprocess.PIPE
    ) -> subprocess.CompletedProcess[str]:
        program = "import sys; from supervisor.cli import run; sys.exit(run(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments, "--state", str(self.state)],
            stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, env=ENVIRONMENT,
            check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done

    def status(self) -> dict[str, Any]:
        """The live status, {} while nobody answers."""
        try:
            return ask(self.state, "status", "look")
        except SdaError:
            return {}

    def running(self) -> bool:
        operators = self.status().get("operators", [])
        return bool(operators) and all(o["state"] == "running" for o in operators)

    def operator(self, name: str) -> dict[str, Any]:
        return next(o for o in self.status()["operators"] if o["name"] == name)

    def trace(self, **wanted: object) -> list[dict[str, Any]]:
        """The lines of the trace that have these fields, in order."""
        text = self.trace_file.read_text() if self.trace_file.exists() else ""
        lines = [json.loads(line) for line in text.splitlines()]
        return [line for line in lines if wanted.items() <= line.items()]

    def journal(self, event: str) -> list[dict[str, Any]]:
        path = self.state / "logs" / "supervisor.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [line for line in lines if line["event"] == event]

    def story(self) -> str:
        logs = sorted((self.state / "logs").glob("*"))
        return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in logs)

    def survivors(self) -> list[int]:
        """Pids of operators of this pipeline that still live."""
        return [
            each.pid
            for each in psutil.process_iter(["cmdline"])
            if str(self.trace_file) in (each.info["cmdline"] or [])
        ]

    def kill_all(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()


class EarlySuccessor(Runner):
    """A control: the core hears of a death as soon as the signal is sent."""

    def _do(self, actions: Any) -> None:
        for action in list(actions):
            super()._do([action])
            if isinstance(action, Send) and action.signum == LEAVE:
                child = self._children.pop(action.name)
                self._selector.unregister(child.pidfd)
                self._do(self.tree.died(action.name, 0, self.clock.monotonic_ns()))


class KeptRings(Tree):
    """A control: a rewind that forgets the new rings."""

    def _bring_up(self, now: int) -> list[Action]:
        gathered = {name for name in self._rewinding if self.members[name].state == "down"}
        if gathered == self._rewinding:
            self._rewinding.clear()
        return super()._bring_up(now)


def main(arguments: list[str]) -> int:
    """Run the pipeline of a directory with the given options."""
    root, options = Path(arguments[0]), arguments[1:]
    flags = RunFlags("--end-of-input" in options, "--until-idle" in options)
    for_s = float(options[options.index("--for") + 1]) if "--for" in options else None
    if "--early-successor" in options:
        sys.modules["supervisor.session"].Runner = EarlySuccessor  # type: ignore[attr-defined]
    if "--kept-rings" in options:
        sys.modules["supervisor.runner"].Tree = KeptRings  # type: ignore[attr-defined]

    def command(name: str) -> list[str]:
        program = str(HERE / "fake_operator.py")
        return [
            sys.executable,
            "-P",
            "-S",
            program,
            name,
            str(root / "script"),
            str(root / "trace"),
        ]

    try:
        topology = load_topology(root / "topology.yaml")
        run_session(topology, Options(flags, for_s), SystemClock(), print, command)
    except SdaError as error:
        print(error, *getattr(error, "details", ()), sep="\n", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
