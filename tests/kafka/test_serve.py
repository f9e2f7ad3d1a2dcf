"""`python -m tests.servers run`: both servers for a command or until a signal, then nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.process.waiting import wait_until
from tests.servers.demand import demand
from tests.servers.java_runtime import java_home
from tests.servers.recipes import VERSITYGW, installed_kafka

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 90.0
Serve = Callable[..., subprocess.Popen[str]]

# A command that uses what it is given, puts one object more, and exits 7.
USES_BOTH = """
import os, sys, boto3
from confluent_kafka.admin import AdminClient
kafka = AdminClient({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"]})
found = kafka.list_topics(timeout=10).topics
print("topics", {name: len(topic.partitions) for name, topic in found.items()})
s3, bucket = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"]), os.environ["S3_BUCKET"]
before = s3.list_objects_v2(Bucket=bucket)["KeyCount"]
s3.put_object(Bucket=bucket, Key=f"object-{before}", Body=b"x")
print("objects", before, flush=True)
sys.exit(7)
"""


# A command that, when told to end, still needs the broker.
DRAINS = """
import os, signal, sys
from confluent_kafka.admin import AdminClient
def drain(*_):
    kafka = AdminClient({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"]})
    print("drained with", len(kafka.list_topics(timeout=10).brokers), flush=True)
    sys.exit(0)
signal.signal(signal.SIGINT, drain)
print("runs", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start the command with these arguments; what a failed test leaves is killed."""
    demand(java_home, installed_kafka, VERSITYGW.installed)
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "TMPDIR": str(tmp_path), "AWS_SESSION_TOKEN": "of another"}
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.servers", "run", *arguments],
                cwd=ROOT, env=environment, text=True, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What it prints up to the line with this text."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            break
    return "".join(lines)


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_a_command_finds_both_and_the_directory_keeps_what_it_did(
    serve: Serve, tmp_path: Path
) -> None:
    kept = ("--directory", str(tmp_path / "kept"))
    command = ("--", sys.executable, "-c", USES_BOTH)
    for topics, objects, options in (
        ("{'a': 1, 'b': 2}", 0, ("--topic", "a", "--topic", "b:2")),
        ("{'a': 1, 'b': 3}", 1, ("--topic", "b:3")),
    ):
        process = serve(*kept, *options, *command)
        out, err = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 7, err
        assert f"topics {topics}\nobjects {objects}\n" in out
    assert not (tmp_path / "kept" / "servers.env").exists()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_nothing_stays(
    serve: Serve, tmp_path: Path, signum: signal.Signals
) -> None:
    process = serve()
    said = read_until(process, "Ctrl-C stops them")
    file = Path(re.findall(r"set -a; \. (\S+);", said)[0])
    variables = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert file.stat().st_mode & 0o777 == 0o600
    assert variables["KAFKA_BOOTSTRAP"] in said
    assert variables["AWS_SECRET_ACCESS_KEY"] not in said
    servers = children(process)
    assert len(servers) == 2
    process.send_signal(signum)
    out, err = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, err) == (0, "")
    assert "Kafka and S3 are stopped" in out
    assert alive(servers) == []
    assert list(tmp_path.glob("sda-servers-*")) == []


def test_ctrl_c_lets_the_command_drain_first(serve: Serve) -> None:
    process = serve("--", sys.executable, "-c", DRAINS)
    read_until(process, "runs")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all in the foreground
    out, err = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines() == ["drained with 1", "infra: Kafka and S3 are stopped"]


def test_nothing_survives_its_kill(serve: Serve) -> None:
    process = serve("--", "sh", "-c", "echo runs; exec cat /dev/zero > /dev/null")
    read_until(process, "runs")
    family = children(process)
    assert len(family) == 3, "the broker, the store, the command"
    process.kill()
    wait_until(lambda: not alive(family), lambda: f"alive: {alive(family)}")


def test_a_command_that_is_not_there_is_told_at_once(serve: Serve) -> None:
    process = serve("--", "no-such-program")
    _, err = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 2
    assert err == "cannot run no-such-program: there is no such program; name one after --\n"
