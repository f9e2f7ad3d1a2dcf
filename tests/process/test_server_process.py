"""Servers as child processes, on a small stand-in: waited for, signalled, never left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sda_pipeline.errors import Unreachable
from tests.process.waiting import wait_until
from tests.servers import loopback_ports
from tests.servers.loopback_ports import Port, accepts
from tests.servers.server_process import Served, ServerProcess

pytestmark = pytest.mark.process
ROOT = Path(__file__).resolve().parents[2]
LISTEN = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1])));"
SERVE = f"{LISTEN}\nwhile True: s.accept()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SERVE}"

# A parent that starts a server from a thread that ends, says its pid, and waits to be killed.
PARENT = """
import sys, threading
from pathlib import Path
from tests.servers.server_process import ServerProcess
script, port, log = sys.argv[1:]
server = ServerProcess("stand-in", [sys.executable, "-c", script, port], Path(log))
thread = threading.Thread(target=server.start)
thread.start()
thread.join()
print(server.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def port() -> Iterator[Port]:
    port = Port()
    yield port
    port.release()


def server(tmp_path: Path, port: Port, script: str) -> ServerProcess:
    argv = [sys.executable, "-c", script, str(port.number)]
    return ServerProcess("stand-in", argv, tmp_path / "log")


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_it_starts_pauses_goes_on_stops_and_starts_again(tmp_path: Path, port: Port) -> None:
    process = server(tmp_path, port, SERVE)
    process.start()
    try:
        process.await_ready(lambda: accepts(port.number))
        process.pause()
        state = psutil.Process(process.pid)
        assert state.status() == psutil.STATUS_STOPPED
        process.resume()
        wait_until(lambda: state.status() != psutil.STATUS_STOPPED, process.story)
        process.pause()
        process.stop()  # also a paused one
        assert not process.running
        assert not accepts(port.number)
        process.start()
        process.await_ready(lambda: accepts(port.number))
    finally:
        process.kill()
    assert not process.running


def test_one_that_does_not_stop_is_killed(tmp_path: Path, port: Port) -> None:
    process = server(tmp_path, port, STUBBORN)
    process.start()
    process.await_ready(lambda: accepts(port.number))
    process.stop(within_s=0.2)
    assert not process.running


def test_one_that_dies_at_start_is_told_with_its_log(tmp_path: Path, port: Port) -> None:
    process = server(tmp_path, port, "import sys; sys.exit('no such property')")
    process.start()
    with pytest.raises(Unreachable, match=r"cannot start stand-in: it exited 1; (.|\n)*property"):
        process.await_ready(lambda: accepts(port.number))


def test_one_that_never_answers_is_told(tmp_path: Path, port: Port) -> None:
    process = server(tmp_path, port, SERVE)
    process.start()
    try:
        with pytest.raises(Unreachable, match="does not answer"):
            process.await_ready(lambda: False, within_s=0.1)
    finally:
        process.kill()


def test_what_cannot_start_does_not_stay(tmp_path: Path, port: Port) -> None:
    class Late(Served):
        """It runs, and never answers."""

        process = server(tmp_path, port, SERVE)

        def start(self) -> None:
            self.process.start()
            self.process.await_ready(lambda: False, within_s=0.1)

        def close(self) -> None:
            self.process.kill()

    with pytest.raises(Unreachable), Late():
        raise AssertionError("it must not get here")
    assert not Late.process.running
    assert gone(Late.process.pid)


@pytest.mark.parametrize("paused", [False, True])
def test_nothing_survives_a_killed_parent(tmp_path: Path, port: Port, paused: bool) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, SERVE, str(port.number), str(tmp_path / "log")],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    try:
        wait_until(lambda: accepts(port.number), lambda: "it does not listen")
        assert not gone(pid), "it outlives the thread that started it"
        if paused:
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
        wait_until(lambda: gone(pid), lambda: f"{pid} is alive")
    finally:
        parent.kill()
        parent.communicate()


def test_ports_are_claimed_once_and_below_the_ephemeral_range() -> None:
    ports = [Port() for _ in range(20)]
    try:
        numbers = [port.number for port in ports]
        assert len(set(numbers)) == 20
        assert max(numbers) < loopback_ports._ephemeral_low()
        assert loopback_ports._claim(numbers[0]) is None
    finally:
        for port in ports:
            port.release()
    again = loopback_ports._claim(numbers[0])
    assert again is not None
    again.close()


def test_a_port_in_use_is_not_taken() -> None:
    port = Port()
    port.release()
    with socket.create_server((loopback_ports.HOST, port.number)):
        assert loopback_ports._claim(port.number) is None


def test_threads_do_not_share_a_port() -> None:
    found: list[Port] = []
    threads = [threading.Thread(target=lambda: found.append(Port())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({port.number for port in found}) == 8
    for port in found:
        port.release()
