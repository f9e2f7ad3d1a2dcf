"""The cache of servers: complete or absent, filled once, checked; clear words when it cannot be.

Package clients are small scripts here; the real ones are run by `make infra`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sda_pipeline.errors import Unreachable
from tests.servers import cache, demand, recipes
from tests.servers.java_runtime import java_home

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sh", "cat", "chmod", "dirname", "sleep")


class Machine:
    """A machine with a cache of its own and only the package clients that a test gives it."""

    def __init__(self, root: Path) -> None:
        self.cache, self.bin, self.java = root / "cache", root / "bin", root / "java"
        self.bin.mkdir()
        for name in TOOLS:
            (self.bin / name).symlink_to(f"/bin/{name}")
        self.give(self.java / "bin" / "java", "exit 0")
        (self.java / "release").write_text('JAVA_VERSION="17.0.1"\n')
        self.environment = {
            "PATH": str(self.bin),
            "JAVA_HOME": str(self.java),
            "SDA_INFRA_CACHE": str(self.cache),
            "LOG": str(root / "log"),
        }
        self.log = root / "log"

    def give(self, path: Path, script: str) -> None:
        """A program that runs this shell script."""
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def give_go(self) -> None:
        """Builds something small, and notes that it did."""
        made = 'for p in versitygw server; do echo "$p" > "$GOBIN/$p"; chmod 755 "$GOBIN/$p"; done'
        self.give(self.bin / "go", f'echo built >> "$LOG"; sleep 0.2; {made}')

    def fetch(self, *flags: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.servers", "fetch", *flags],
            cwd=ROOT, env=self.environment | environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_bare_machine_is_told_what_to_install(machine: Machine) -> None:
    process = machine.fetch()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 8
    lines = err.splitlines()
    assert lines[0].startswith("cannot fetch Kafka: this machine has no `mvn`; install Maven")
    assert lines[1].startswith("cannot fetch VersityGW: this machine has no `go`; install Go")
    assert lines[2].startswith("cannot fetch Toxiproxy: this machine has no `go`; install Go")
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("environment", "code"), [({}, 0), ({"CI": "true"}, 8), ({"SDA_REQUIRE_INFRA": "1"}, 8)]
)
def test_what_is_optional_on_a_laptop_is_required_in_ci(
    machine: Machine, environment: dict[str, str], code: int
) -> None:
    process = machine.fetch("--optional", **environment)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert ("tests that need them will be skipped" in out) == (code == 0)


def test_two_that_fetch_at_once_build_once(machine: Machine) -> None:
    machine.give_go()
    both = [machine.fetch(), machine.fetch()]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert machine.log.read_text().count("built") == 2, "VersityGW and Toxiproxy, once each"
    assert sum("building VersityGW" in out for out in outputs) == 1
    again = machine.fetch().communicate(timeout=60)[0]
    assert "VersityGW is there" in again
    assert machine.log.read_text().count("built") == 2


def test_a_program_that_changed_is_built_again(machine: Machine) -> None:
    machine.give_go()
    machine.fetch().communicate(timeout=60)
    built = machine.cache / "versitygw-v1.8.0" / "versitygw"
    built.write_text("half of it")
    assert "building VersityGW" in machine.fetch().communicate(timeout=60)[0]
    assert built.read_text() == "versitygw\n"


def test_jars_with_other_bytes_are_refused(machine: Machine) -> None:
    target = 'for last; do :; done; to="${last#-DoutputDirectory=}"'
    wrong = f'for jar in {" ".join(recipes.JARS)}; do echo other > "$to/$jar"; done'
    machine.give(machine.bin / "mvn", f"{target}; {wrong}")
    process = machine.fetch()
    _, err = process.communicate(timeout=60)
    assert "cannot fetch Kafka: " in err
    assert "kafka-clients-4.4.0.jar has another SHA-256" in err
    assert [p.name for p in machine.cache.iterdir()] == [".lock"], "nothing half done stays"


def test_a_failing_client_is_quoted(machine: Machine) -> None:
    machine.give(machine.bin / "go", "echo the proxy says no; exit 3")
    _, err = machine.fetch().communicate(timeout=60)
    assert "cannot fetch VersityGW: " in err
    assert "exited 3: the proxy says no; check that Go" in err


def test_the_list_of_jars_names_each_once_with_a_digest() -> None:
    assert len(recipes.JARS) == 45
    assert all(len(digest) == 64 for digest in recipes.JARS.values())
    assert "kafka_2.13-4.4.0.jar" in recipes.JARS


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    wanted = {"good": "", "gone": "", "bad": "0" * 64}
    (tmp_path / "good").write_bytes(b"x")
    wanted["good"] = cache.sha256(tmp_path / "good")
    (tmp_path / "bad").write_bytes(b"x")
    (tmp_path / "stranger").write_bytes(b"x")
    assert cache.damaged(tmp_path, wanted) == [
        "gone is missing", "stranger is not on the list", "bad has another SHA-256",
    ]  # fmt: skip
    assert len(cache.damaged(tmp_path / "nowhere", wanted)) == 3


def test_what_was_left_half_done_goes_and_a_failure_leaves_the_old(tmp_path: Path) -> None:
    target, left_over = tmp_path / "thing", tmp_path / ".thing.abc"
    left_over.mkdir()
    cache.make(target, lambda staging: (staging / "a").touch())
    assert [p.name for p in tmp_path.iterdir()] == ["thing"]

    def fail(staging: Path) -> None:
        (staging / "b").touch()
        raise Unreachable("fetch a thing", "no reason")

    with pytest.raises(Unreachable):
        cache.make(target, fail)
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["thing", "thing/a"]


def test_a_test_without_its_server_skips_here_and_fails_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDA_INFRA_CACHE", str(tmp_path))
    for name in cache.REQUIRE:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"cannot start Kafka: .*; run `make infra`"):
        demand.demand(recipes.installed_kafka)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"cannot start VersityGW: .*`make infra`"):
        demand.demand(recipes.VERSITYGW.installed)


@pytest.mark.parametrize(
    ("version", "will_do"), [("17.0.1", True), ("21", True), ("11.0.2", False)]
)
def test_java_is_taken_when_new_enough(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, version: str, will_do: bool
) -> None:
    (machine.java / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    if will_do:
        assert java_home() == machine.java
    else:
        with pytest.raises(Unreachable, match="cannot start Java 17"):
            java_home()


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SDA_INFRA_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_root() == tmp_path.resolve() / "sda-pipeline"
    monkeypatch.setenv("SDA_INFRA_CACHE", str(tmp_path / "other"))
    assert cache.cache_root() == tmp_path.resolve() / "other"
    assert not (tmp_path / "other").exists()
