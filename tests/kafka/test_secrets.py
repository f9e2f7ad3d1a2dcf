"""A whole pipeline on a protected Kafka: it works, and no output holds the secret; refusals too."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from sda_pipeline.cli.reprocess.reprocess_cli import cli as reprocess
from sda_pipeline.cli.sim.main import cli as simulator
from sda_pipeline.clock import SystemClock
from sda_pipeline.dlq.reading import read_entries
from sda_pipeline.errors import ExitCode
from supervisor.cli import cli as supervisor
from tests.kafka.kafka_site import create_topics, on_kafka
from tests.process import verdict
from tests.process.site import Site
from tests.process.test_crash import KIND_OF
from tests.process.waiting import wait_until
from tests.servers.kafka_properties import Security
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import Topics
from tests.servers.loopback_ports import Port
from tests.servers.server_fixtures import NewKafka

pytestmark = [pytest.mark.kafka, pytest.mark.process]
VARIABLE = "SDA_TEST_KAFKA_PASSWORD"
WRONG = "wrong-canary-password"
QUICK_S = 20.0  # a refusal is due within seconds; the machine may be busy


@pytest.fixture
def safe(new_kafka: NewKafka, monkeypatch: pytest.MonkeyPatch) -> KafkaServer:
    """TLS and SCRAM; the password is in the environment."""
    kafka = new_kafka(security=Security(scram=True, tls=True))
    monkeypatch.setenv(VARIABLE, kafka.password)
    return kafka


@pytest.fixture
def guarded(prepared: Site, safe: KafkaServer, tmp_path: Path) -> Iterator[Site]:
    """A site whose topology names the variable."""
    site = on_kafka(prepared, tmp_path / "site", safe)
    assert safe.certificates is not None
    kafka = site.settings["kafka"] | {
        "security": "sasl_tls", "ca_file": str(safe.certificates.authority),
        "username": safe.user, "password_env": VARIABLE,
    }  # fmt: skip
    site = replace(site, settings=site.settings | {"kafka": kafka})
    site.write_topology()
    yield site
    site.clear()


def holding(root: Path, secret: str) -> list[str]:
    """Every file below ``root`` with the secret in it."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return [str(path) for path in files if secret.encode() in path.read_bytes()]


# Every command there is, while the pipeline runs or just after; DLQ_ID is that of an entry.
SUPERVISOR = """status|status --json|alerts|alerts --json|effects|effects --json|audit|audit --json
validate topology.yaml|graph topology.yaml|logs radar|wait|restart radar|drain""".replace("\n", "|")
REPROCESS = "list|show DLQ_ID|run --dry-run|run --yes|ledger|migrate"
SIM = "catalogue|record recorded.jsonl --for 1s|run --for 1s"
NOT_RUN = {"start", "stop", "demo"}  # its output is in the site; drain; start and sda-sim at once
WITHOUT_STATE = {"validate", "graph"}


def words_of(commands: str) -> list[list[str]]:
    return [command.split() for command in commands.split("|")]


def test_every_command_is_searched() -> None:
    assert {words[0] for words in words_of(SUPERVISOR)} == supervisor.commands.keys() - NOT_RUN
    assert {words[0] for words in words_of(REPROCESS)} == reprocess.commands.keys()
    assert {words[0] for words in words_of(SIM)} == simulator.commands.keys() - {"play"}


def told_by_supervisor(site: Site, commands: list[list[str]]) -> str:
    """All that it prints."""
    said = ""
    for words in commands:
        state = [] if words[0] in WITHOUT_STATE else ["--state", "state"]
        done = site.run("sda-supervisor", *words, *state, check=words[0] != "wait")
        said += done.stdout + done.stderr
    return said


def told_by_tools(site: Site) -> str:
    """What ``sda-reprocess`` and ``sda-sim`` print, without a terminal."""
    entry = next(iter(read_entries(site.state / "dlq")))
    said = ""
    for tool, commands in (("sda-reprocess", REPROCESS), ("sda-sim", SIM)):
        for words in words_of(commands.replace("DLQ_ID", entry.dlq_id)):
            done = site.run(tool, *words)
            said += done.stdout + done.stderr
    return said


def with_file(site: Site, secret: Path, password: str) -> Site:
    """The same site, whose password is in a file outside it."""
    secret.write_text(password + "\n")
    kafka = {key: value for key, value in site.settings["kafka"].items() if key != "password_env"}
    settings = {**site.settings, "kafka": kafka | {"password_file": str(secret)}}
    site = replace(site, settings=settings)
    site.write_topology()
    return site


@pytest.mark.parametrize("named", ["environment", "file"])
def test_a_whole_run_without_the_secret_in_any_output(
    named: str, guarded: Site, safe: KafkaServer, undisturbed: dict[str, str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    place = VARIABLE
    if named == "file":
        guarded = with_file(guarded, tmp_path / "secret", safe.password)
        monkeypatch.delenv(VARIABLE)
        place = str(tmp_path / "secret")
    create_topics(Topics(safe))
    played = guarded.run("sda-sim", "play", "traffic.jsonl", "--speed", "max")
    process = guarded.start()
    wait_until(lambda: guarded.status().get("supervisor", {}).get("state") == "running",
               guarded.story)  # fmt: skip
    tree = psutil.Process(process.pid).children(recursive=True)
    lines = [line for each in tree for line in each.cmdline()]
    assert len(tree) >= len(KIND_OF)
    told = played.stdout + played.stderr
    told += told_by_supervisor(guarded, words_of(SUPERVISOR))
    assert process.wait(60) == 0, guarded.story()
    guarded.finish()
    verdict.check(guarded, undisturbed)
    told += told_by_tools(guarded)
    assert safe.password not in told
    assert all(safe.password not in line for line in lines)
    assert holding(guarded.root, safe.password) == []
    assert place in (guarded.state / "topology.json").read_text()
    (guarded.root / "leak").write_text(f"password={safe.password}")
    assert len(holding(guarded.root, safe.password)) == 1, "the search finds what is there"


def refused(site: Site) -> str:
    """The one line with which a start says no, fast; the exit code says that the broker is why."""
    clock = SystemClock()
    began = clock.monotonic_ns()
    done = site.run("sda-supervisor", "start", "topology.yaml", check=False)
    assert done.returncode == ExitCode.UNREACHABLE, done.stderr
    assert clock.monotonic_ns() - began < QUICK_S * 1e9
    assert WRONG not in done.stdout + done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("cannot ")]
    assert len(told) == 1, done.stderr
    assert site.survivors() == []
    return told[0]


def test_a_wrong_password(guarded: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, WRONG)
    assert "SASL authentication error" in refused(guarded)
    assert holding(guarded.root, WRONG) == []


def test_no_password(guarded: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    done = guarded.run("sda-supervisor", "start", "topology.yaml", check=False)
    assert done.returncode == ExitCode.INVALID
    assert f"environment variable {VARIABLE}: it is not set; export it" in done.stderr
    guarded.run("sda-supervisor", "validate", "topology.yaml")  # asks neither broker nor secret


def test_a_missing_topic(guarded: Site, safe: KafkaServer) -> None:
    create = f"create it: kafka-topics.sh --bootstrap-server {safe.bootstrap} --create --topic"
    assert f"{create} sda.obs." in refused(guarded)


def test_nobody_listens(guarded: Site) -> None:
    port = Port()
    site = replace(guarded, settings=guarded.settings | {"broker": f"kafka://{port.address}"})
    site.write_topology()
    assert "does not answer" in refused(site)
    play = subprocess.run(
        site.command("sda-sim", "play", "traffic.jsonl"), cwd=site.root, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert play.returncode == ExitCode.UNREACHABLE
    assert play.stderr.startswith(f"cannot produce: Kafka at {port.address} does not answer")
    port.release()
