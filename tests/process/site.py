"""A whole pipeline in a temporary directory, driven from outside like a user would.

Not the checks.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import psutil
import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
EPOCH, EPOCH_NS = "2026-11-23T12:00:00Z", 1_795_435_200 * 10**9
MINUTES = 2  # of engineered encounters
RECORDED_S = MINUTES * 60 + 30
SEED = 7
CHOICES = os.environ.get("SDA_SEED", "20261123")  # what tests choose at random follows from it
FINISH_WITHIN_S = 120
MARK = "SDA_SITE"  # in the environment of a site's supervisor, and so of all it starts


def replay() -> str:
    """The command that runs the present test again with the same choices."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    return f"SDA_SEED={CHOICES} .venv/bin/pytest '{test}'"


@dataclass(frozen=True)
class Site:
    """One topology with its own state, broker and subscriber under ``root``.

    ``settings``: top-level keys of every topology written here, such as another broker.
    """

    root: Path
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def topology(self) -> Path:
        return self.root / "topology.yaml"

    @property
    def state(self) -> Path:
        return self.root / "state"

    def write_topology(self, **changes: Any) -> None:
        """The repository's topology with paths of its own and the given top-level keys changed."""
        document = yaml.safe_load((ROOT / "topology.yaml").read_text())
        document |= {
            "state": "state",
            "broker": "embedded:broker",
            "catalogue": "catalogue.tle",
            "sensors": "sensors.yaml",
            "subscriber": {"path": "subscriber"},
            "checkpoint": {"every_s": 0.3},
        }
        document["limits"]["disk_reserve"] = "1 MiB"
        for key, value in [*self.settings.items(), *changes.items()]:
            document[key] = (document.get(key) or {}) | value if isinstance(value, dict) else value
        self.topology.write_text(yaml.safe_dump(document, sort_keys=False))
        shutil.copy(ROOT / "sensors.yaml", self.root / "sensors.yaml")

    def copy_to(self, root: Path, *, without: str = "nothing") -> Site:
        """The same inputs (topology, catalogue, sensors, filled broker) without any state."""
        left_out = shutil.ignore_patterns("state", "subscriber", without)
        shutil.copytree(self.root, root, ignore=left_out)
        return replace(self, root=root)

    def command(self, tool: str, *arguments: str) -> list[str]:
        return [str(BIN / tool), *arguments]

    def run(
        self, tool: str, *arguments: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the project's commands to its end, in this site's directory."""
        done = subprocess.run(
            self.command(tool, *arguments),
            cwd=self.root, capture_output=True, text=True, timeout=FINISH_WITHIN_S, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"{tool} {arguments} exited {done.returncode}:\n{done.stderr}")
        return done

    def start(self, *flags: str, failpoints: str = "") -> subprocess.Popen[bytes]:
        """Start the supervisor in its own session; the log is ``supervisor.out``."""
        command = self.command("sda-supervisor", "start", "topology.yaml", *flags)
        return self.spawn(command, failpoints, cwd=self.root)

    def spawn(self, command: list[str], failpoints: str, cwd: Path) -> subprocess.Popen[bytes]:
        """A supervisor by any command, in its own session, with failpoints set."""
        environment = {**os.environ, "SDA_FAILPOINTS": failpoints, MARK: str(self.root)}
        with (self.root / "supervisor.out").open("ab") as out:
            return subprocess.Popen(
                command, cwd=cwd, stdout=out, stderr=out, env=environment, start_new_session=True
            )

    def finish(self, *flags: str, failpoints: str = "") -> None:
        """Start with ``--end-of-input`` and wait until it is complete."""
        process = self.start("--end-of-input", *flags, failpoints=failpoints)
        try:
            code = process.wait(FINISH_WITHIN_S)
        except subprocess.TimeoutExpired:
            kill_tree(process)
            raise AssertionError(f"did not finish:\n{self.story()}") from None
        assert code == 0, f"exit {code}:\n{self.story()}"

    def fill(self) -> None:
        """Put the recorded traffic into the broker, all at once."""
        self.run("sda-sim", "play", "traffic.jsonl", "--speed", "max")

    def status(self) -> dict[str, Any]:
        """``sda-supervisor status --json`` of the running pipeline, {} while it does not answer."""
        done = self.run("sda-supervisor", "status", "--json", "--state", "state", check=False)
        return orjson.loads(done.stdout) if done.returncode == 0 else {}

    def events(self, operator: str) -> list[dict[str, Any]]:
        """The JSON log events of one operator."""
        path = self.state / "logs" / f"{operator}.jsonl"
        whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
        lines = whole.splitlines()  # not the one that is being written
        return [orjson.loads(line) for line in lines if line.startswith(b"{")]

    def lives(self, operator: str) -> int:
        """How often an operator has become ready."""
        return sum(event["event"] == "ready" for event in self.events(operator))

    def stands_in(self, operator: str, step: str) -> bool:
        """Whether an operator is in a step and stays there, as the failpoint ``hang`` makes it."""
        operators = self.status().get("operators", [])
        steps = {o["name"]: o["step"].upper() for o in operators if o["step"]}
        return steps.get(operator) == step and self.silent(operator)

    def silent(self, operator: str) -> bool:
        """No heartbeat for longer than an idle operator ever takes."""
        operators = self.status().get("operators", [])
        return any(o["name"] == operator and (o["silent_s"] or 0) > 0.7 for o in operators)

    def story(self) -> str:
        """How to see it again and the end of every log, for a failing test."""
        parts = [f"replay: {replay()}", (self.root / "supervisor.out").read_text()[-3000:]]
        logs = sorted((self.state / "logs").glob("*.jsonl"))
        parts += [f"--- {path.name}\n{path.read_text()[-1500:]}" for path in logs]
        return "\n".join(parts)

    def survivors(self) -> list[psutil.Process]:
        """Processes that still name this site's state in their command line."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or [])
            if str(self.state) in line and process.pid != os.getpid():
                found.append(process)
        return found

    def clear(self) -> None:
        """End what a failed test left running here, supervisors first: their children follow."""
        for process in psutil.process_iter(["cwd", "cmdline"]):
            line = " ".join(process.info["cmdline"] or [])
            if process.info["cwd"] == str(self.root) and "sda-" in line:
                _end(process)
        for process in self.survivors():
            _end(process)


def _end(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the supervisor and every operator at one instant."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def prepare(root: Path, *, objects: int = 60, rate: int = 60) -> Site:
    """A small catalogue with engineered encounters and recorded traffic, all of it in the
    broker.
    """
    site = Site(root)
    root.mkdir(parents=True, exist_ok=True)
    site.write_topology()
    site.run(
        "sda-sim", "catalogue", "--epoch", EPOCH, "--seed", str(SEED), "--objects", str(objects),
        "--minutes", str(MINUTES), "--per-minute", "12",
    )  # fmt: skip
    site.run(
        "sda-sim", "record", "traffic.jsonl", "--rate", str(rate), "--for", f"{RECORDED_S}s",
        "--seed", str(SEED), "--corrupt", "0.05", "--duplicates", "0.02", "--late", "0.02",
    )  # fmt: skip
    site.fill()
    return site
