"""How runs of the supervisor begin and end: lock, finite input, kills from outside, wrong use."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.claim import holders
from supervisor.cli import run
from tests.process.fake_pipeline import DELIVERED, FakePipeline
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[FakePipeline]:
    fake = FakePipeline(tmp_path)
    yield fake
    fake.kill_all()


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakePipeline]:
    """A running pipeline shared by the tests that do not disturb it."""
    fake = FakePipeline(tmp_path_factory.mktemp("calm"))
    fake.start({"radar": {"*": ["print hello", "ready"]}})
    until(fake.running, fake)
    yield fake
    fake.kill_all()


def until(condition: object, fake: FakePipeline, within_s: float = 15) -> None:
    wait_until(condition, fake.story, within_s)  # type: ignore[arg-type]


def test_end_of_input_is_complete_and_refuses_another_start(pipeline: FakePipeline) -> None:
    pipeline.start(DELIVERED, "--end-of-input")
    code, out, _ = pipeline.end()
    assert code == 0
    assert "complete: all input is delivered" in out
    assert (pipeline.state / "complete").exists()
    pipeline.start(DELIVERED)
    code, _, err = pipeline.end()
    assert code == 3
    assert err.startswith("cannot start: the run in ")
    assert "is complete" in err


def test_a_begun_finite_run_is_finished_by_any_start(pipeline: FakePipeline) -> None:
    process = pipeline.start({}, "--end-of-input")
    until(pipeline.running, pipeline)
    os.killpg(process.pid, signal.SIGKILL)
    pipeline.end()
    pipeline.start(DELIVERED)
    code, out, _ = pipeline.end()
    assert code == 0
    assert "finishing the run that was begun with --end-of-input" in out
    assert (pipeline.state / "complete").exists()


def test_until_idle_waits_for_everything(pipeline: FakePipeline) -> None:
    script = json.loads(json.dumps(DELIVERED))
    script["radar"]["*"] = ["set radar.lag 0", "set radar.log_end 1", "ready", "wait go"]
    script["radar"]["*"] += ["set radar.log_end 0"]
    process = pipeline.start(script, "--until-idle")
    until(pipeline.running, pipeline)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.35)  # three looks at the board; it must not stop
    (pipeline.root / "go").touch()
    assert pipeline.end()[0] == 0
    assert not (pipeline.state / "complete").exists()


def test_for_a_time(pipeline: FakePipeline) -> None:
    pipeline.start({}, "--for", "0.2")
    assert pipeline.end()[0] == 0
    assert len(pipeline.trace(what="left")) == 9


def test_killed_supervisor_takes_its_tree_and_the_next_start_takes_the_lock(
    pipeline: FakePipeline,
) -> None:
    process = pipeline.start()
    until(pipeline.running, pipeline)
    process.kill()
    pipeline.end()
    assert (pipeline.state / "control.sock").exists()  # stale
    refused = pipeline.cli("status", check=False)
    assert refused.returncode == 5
    assert refused.stderr.startswith("cannot show the status: no supervisor answers in")
    pipeline.start()
    until(pipeline.running, pipeline)
    until(lambda: len(pipeline.survivors()) == 9, pipeline)


def test_a_second_supervisor_is_refused_at_once(calm: FakePipeline) -> None:
    assert calm.process is not None
    second = FakePipeline(calm.root)
    second.start({"radar": {"*": ["print hello", "ready"]}})
    code, _, err = second.end(5)
    assert code == 4
    assert f"is running (pid {calm.process.pid}); stop it first" in err
    assert calm.running()


def test_a_lock_held_by_a_rest_of_a_tree_is_waited_for(pipeline: FakePipeline) -> None:
    pipeline.state.mkdir(mode=0o700)
    program = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX);"
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(pipeline.state / "lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        assert holders(pipeline.state / "lock") == [holder.pid]
        process = pipeline.start()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.35)
        assert pipeline.trace() == []
    until(pipeline.running, pipeline)


def test_the_control_socket_speaks_only_its_verbs(calm: FakePipeline) -> None:
    path = str(calm.state / "control.sock")
    for request in (b'{"verb": "rm"}\n', b"{}\n", b"not json\n", b"x" * 5000, b"[1]\n"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(path)
            connection.sendall(request)
            with contextlib.suppress(ConnectionResetError):  # dropped with bytes unread
                answer = connection.recv(4096)
                assert answer == b"" or json.loads(answer)["ok"] is False
    with contextlib.ExitStack() as silent:
        for _ in range(20):
            silent.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
        until(calm.running, calm)  # silent clients are dropped after a while, others are served


def test_logs_of_an_operator(calm: FakePipeline) -> None:
    assert calm.cli("logs", "radar").stdout == "hello\n"
    assert '"event":"running"' in calm.cli("logs", "supervisor").stdout
    refused = calm.cli("logs", "radio", check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith("cannot show the log of radio: there is none; there are radar")


def test_a_reader_that_goes_away_is_no_fault(calm: FakePipeline) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as nobody:
        done = calm.cli("logs", "supervisor", check=False, stdout=nobody)
    assert (done.returncode, done.stderr) == (0, "")


def test_views_of_a_pipeline_without_alerts(calm: FakePipeline) -> None:
    assert calm.cli("alerts", "--json").stdout == calm.cli("effects", "--json").stdout == ""
    assert calm.cli("alerts").stdout.split() == [
        "pair", "level", "state", "tca", "miss", "m", "Pc", "alert"
    ]  # fmt: skip
    assert calm.cli("effects").stdout.startswith("at  effect  alert_id")


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["frobnicate"], 2, "cannot run 'sda-supervisor': no such command"),
        (["start", "--for", "soon"], 2, "cannot run 'sda-supervisor start': invalid value"),
        (["start", "nowhere.yaml"], 3, "cannot read the topology file nowhere.yaml: No such"),
        (["start"], 3, "cannot start: the catalogue file"),
        (["status"], 5, "cannot show the status: no pipeline runs in"),
        (["stop"], 5, "cannot stop the pipeline: no pipeline runs in"),
        (["drain"], 5, "cannot drain the pipeline: no pipeline runs in"),
        (["restart", "radar"], 5, "cannot restart radar: no pipeline runs in"),
        (["restart"], 2, "cannot run 'sda-supervisor restart': missing argument"),
        (["alerts"], 3, "cannot read the pipeline in"),
        (["status", "--state", "elsewhere"], 5, "cannot show the status: no pipeline runs in"),
        (["validate", "topology.yaml"], 3, "cannot load catalogue and sensors:"),
    ],
)
def test_wrong_use_is_one_line_and_its_exit_code(
    arguments: list[str],
    code: int,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    FakePipeline(tmp_path)
    (tmp_path / "catalogue.tle").unlink()
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == code
    error = capfd.readouterr().err
    assert error.startswith(line)
    assert error.count("\n") == 1
    assert not (tmp_path / "state").exists()


def test_sources_may_not_change_places_under_a_state(pipeline: FakePipeline) -> None:
    pipeline.start({}, "--for", "0")
    assert pipeline.end()[0] == 0
    text = (pipeline.root / "topology.yaml").read_text()
    first, second = text.splitlines()[9:11]
    assert "radar" in first
    swapped = text.replace(first, "#").replace(second, f"{second}\n{first}")
    (pipeline.root / "topology.yaml").write_text(swapped)
    pipeline.start({}, "--for", "0")
    code, _, err = pipeline.end()
    assert code == 3
    assert err.startswith("cannot start: source 0 was radar in this state directory and is now")
    # A damaged record of the last start is repaired, not a reason to stay down.
    (pipeline.state / "topology.json").write_text('{"pipeline": "fa')
    pipeline.start({}, "--for", "0")
    code, out, _ = pipeline.end()
    assert code == 0
    assert "topology.json is damaged and written anew" in out


def test_a_directory_with_other_things_in_it_is_refused_untouched(pipeline: FakePipeline) -> None:
    pipeline.state.mkdir()
    pipeline.state.chmod(0o755)
    (pipeline.state / "thesis.tex").write_text("")
    pipeline.start()
    code, _, err = pipeline.end()
    assert code == 3
    assert "it holds other files (thesis.tex); name a directory of its own" in err
    assert pipeline.state.stat().st_mode & 0o777 == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a directory away")
def test_a_directory_of_another_user_is_refused(pipeline: FakePipeline) -> None:
    pipeline.state.mkdir(mode=0o700)
    os.chown(pipeline.state, 12345, -1)
    pipeline.start()
    code, _, err = pipeline.end()
    assert code == 3
    assert "it belongs to user 12345" in err
