"""``sda-supervisor demo`` from outside: alerts, one drain, nothing left, whatever ends it.

The tests share one state, each goes on where the one before stopped, as ``make run`` does.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sda_pipeline.clock import SystemClock
from sda_pipeline.state.subscriber_store import read_actions
from sda_pipeline.vocabulary import Effect
from tests.process.site import ROOT, Site
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process

ALERT = re.compile(r"^\d{4}-\S+Z +\d+-\d+ +(RED|YELLOW|-) +\w+", re.MULTILINE)
ALERTS_WITHIN_S = 30  # of the processes being up
END_WITHIN_S = 60


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with a small catalogue of now, which a demo keeps."""
    site = Site(tmp_path_factory.mktemp("demo"))
    site.write_topology()
    site.run("sda-sim", "catalogue", "--objects", "300", "--minutes", "10", "--per-minute", "12")
    return site


class Run:
    """One demo whose stdout and stderr go to files, in a process group of its own."""

    def __init__(self, site: Site, *options: str, stdout: int | None = None) -> None:
        self.site, self.out, self.err = site, site.root / "demo.out", site.root / "demo.err"
        argv = site.command("sda-supervisor", "demo", "topology.yaml", "--rate", "300", *options)
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                argv, cwd=site.root, stdout=out if stdout is None else stdout, stderr=err,
                start_new_session=True,
            )  # fmt: skip
        self.family: list[psutil.Process] = []

    def story(self) -> str:
        return f"{self.out.read_text()}\n--- stderr\n{self.err.read_text()}"

    def until_running(self) -> None:
        wait_until(lambda: "running after" in self.err.read_text() or self.ended(), self.story)
        self.note_family()

    def note_family(self) -> None:
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        assert self.family

    def until_alerts(self) -> None:
        self.until_running()
        wait_until(lambda: ALERT.search(self.out.read_text()), self.story, ALERTS_WITHIN_S)
        self.note_family()

    def ended(self) -> bool:
        return self.process.poll() is not None

    def end(self) -> int:
        try:
            return self.process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end:\n{self.story()}") from None

    def survivors(self) -> list[psutil.Process]:
        return [each for each in self.family if alive(each)]

    def kill(self) -> None:
        if not self.ended():
            self.process.kill()
        self.process.wait()


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def demo(stage: Site) -> Iterator[Run]:
    run = Run(stage)
    yield run
    run.kill()
    wait_until(lambda: not run.survivors(), run.story)


def journal(site: Site, event: str) -> list[object]:
    return [each for each in site.events("supervisor") if each["event"] == event]


def shared_memory(processes: list[psutil.Process]) -> set[str]:
    """What they share: ``/memfd:...`` goes with the last of them, ``/dev/shm/...`` would stay."""
    paths = {mapped.path for process in processes for mapped in process.memory_maps()}
    return {path for path in paths if path.startswith(("/memfd:", "/dev/shm/", "/SYSV"))}


def test_alerts_come_and_one_ctrl_c_is_one_drain(stage: Site, demo: Run) -> None:
    demo.until_running()
    second = stage.run("sda-supervisor", "demo", check=False)
    assert (second.returncode, second.stdout) == (4, "")
    assert re.fullmatch(r"cannot start: .* is running \(pid \d+\); stop it first\n", second.stderr)
    demo.until_alerts()
    shared = shared_memory(demo.family)
    assert shared
    assert all(path.startswith("/memfd:") for path in shared)
    drains = len(journal(stage, "draining"))
    os.killpg(demo.process.pid, signal.SIGINT)  # as a terminal sends it: to the whole group
    assert demo.end() == 0, demo.story()
    assert len(journal(stage, "draining")) == drains + 1
    assert journal(stage, "killing") == []
    assert demo.survivors() == []
    text = demo.out.read_text()
    assert "every observation read is accounted for" in text
    assert re.search(r"^read +[1-9]", text, re.MULTILINE)


def test_the_next_run_goes_on_with_the_same_state(stage: Site, demo: Run) -> None:
    catalogue = (stage.root / "catalogue.tle").read_bytes()
    demo.until_alerts()
    demo.process.send_signal(signal.SIGTERM)
    assert demo.end() == 0, demo.story()
    assert (stage.root / "catalogue.tle").read_bytes() == catalogue
    actions = list(read_actions(stage.root / "subscriber" / "subscriber.sqlite"))
    raised = [action.alert_id for action in actions if action.effect is Effect.RAISE]
    assert len(raised) == len(set(raised))


def test_two_ctrl_c_are_quick(stage: Site, demo: Run) -> None:
    demo.until_running()
    demo.process.send_signal(signal.SIGINT)
    wait_until(lambda: "draining" in demo.err.read_text(), demo.story)
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 0, demo.story()
    assert demo.survivors() == []


def test_killed_it_takes_everything_with_it(demo: Run) -> None:
    demo.until_alerts()
    assert len(demo.family) == 12  # ten operators, their supervisor, the simulator
    demo.process.kill()
    wait_until(lambda: not demo.survivors(), demo.story, within_s=5)


def test_it_ends_when_nobody_reads_any_more(stage: Site) -> None:
    reading, writing = os.pipe()
    run = Run(stage, stdout=writing)
    os.close(writing)
    try:
        run.until_running()
        os.close(reading)  # what 'head' does
        assert run.end() == 0, run.story()
        assert "Traceback" not in run.err.read_text()
        assert run.survivors() == []
    finally:
        run.kill()


def test_without_its_traffic_it_stops_and_says_so(demo: Run) -> None:
    demo.until_running()
    simulator = next(each for each in demo.family if "sda-sim" in each.cmdline())
    simulator.kill()
    assert demo.end() == 1
    last = demo.err.read_text().splitlines()[-1]
    assert last.startswith("cannot keep the demo running: sda-sim was killed by SIGKILL")
    assert demo.survivors() == []


def test_a_pipeline_that_cannot_start_is_told_in_its_own_words(stage: Site) -> None:
    (stage.state / "complete").write_text("")
    try:
        done = stage.run("sda-supervisor", "demo", check=False)
    finally:
        (stage.state / "complete").unlink()
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("cannot start: the run in ")


def test_on_a_terminal_it_is_a_table(stage: Site) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(stage.root)
        environment = {**os.environ, "TERM": "xterm"}
        argv = stage.command("sda-supervisor", "demo", "--rate", "300")
        os.execve(argv[0], argv, environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    ready = select.poll()
    ready.register(terminal, select.POLLIN)
    seen = ""
    clock = SystemClock()
    deadline = clock.monotonic_ns() + 120 * 10**9
    asked = False
    while clock.monotonic_ns() < deadline:
        if ready.poll(100):
            try:
                seen += os.read(terminal, 1 << 16).decode()
            except OSError:
                break  # its end
        if not asked and re.search(r"\d+-\d+.*(RED|YELLOW).*in \d:\d\d", seen):
            os.write(terminal, b"\x03")
            asked = True
    else:
        os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, seen[-3000:]
    os.close(terminal)
    assert asked
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")  # the cursor is back
    assert "every observation read is accounted for" in seen


# --- the leash ------------------------------------------------------------------------------

PARENT = """
import subprocess, sys
from pathlib import Path
from supervisor.process import spawn_tool
leashed, log, *argv = sys.argv[1:]
if leashed == "yes":
    pid = spawn_tool(argv, Path(log)).pid
else:
    argv[0] = str(Path(sys.executable).with_name(argv[0]))
    pid = subprocess.Popen(argv, stdout=Path(log).open("w"), start_new_session=True).pid
print(pid, flush=True)
sys.stdin.read()
"""


def listens(process: psutil.Process) -> bool:
    """Whether it has a handler for SIGTERM, which is so when the command itself runs."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(status.split("SigCgt:")[1].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("leashed", [True, False], ids=["leash", "control: none"])
def test_a_tool_dies_with_its_parent(stage: Site, tmp_path: Path, leashed: bool) -> None:
    log = tmp_path / "tool.log"
    argv = ["sda-sim", "run", "--rate", "1", "--topology", str(stage.topology)]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, "yes" if leashed else "no", str(log), *argv],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    tool = psutil.Process(int(parent.stdout.readline()))
    try:
        wait_until(lambda: listens(tool), log.read_text)
        parent.kill()
        parent.communicate()
        if leashed:
            wait_until(lambda: not alive(tool), log.read_text, within_s=5)
            assert log.read_text() == ""
        else:
            tool.terminate()  # it has outlived its parent and ends as it does when asked
            wait_until(lambda: log.read_text().startswith("sent in"), log.read_text)
    finally:
        if alive(tool):
            tool.kill()
