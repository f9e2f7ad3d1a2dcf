"""``sda-supervisor validate``: also the files a topology names for Kafka, and no secret."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from supervisor.cli import run
from tests.unit.topology_rig import ROOT

VARIABLE = "SDA_TEST_KAFKA_PASSWORD"
# International Space Station, element set of the SGP4 documentation's format.
TLE = (
    "1 25544U 98067A   08264.51782528 -.00002182  00000-0 -11606-4 0  2927\n"
    "2 25544  51.6416 247.4627 0006703 130.5360 325.0288 15.72125391563537\n"
)


@pytest.fixture
def topology(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """On a Kafka with TLS and a password; nothing of what it names is there."""
    document = yaml.safe_load((ROOT / "topology.yaml").read_text()) | {
        "broker": "kafka://one:9093",
        "kafka": {
            "security": "sasl_tls", "username": "sda", "password_env": VARIABLE,
            "ca_file": "ca.pem", "certificate_file": "client.pem", "key_file": "client.key",
        },
        "catalogue": "catalogue.tle", "sensors": "sensors.yaml",
    }  # fmt: skip
    path = tmp_path / "topology.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    (tmp_path / "catalogue.tle").write_text(TLE)
    shutil.copy(ROOT / "sensors.yaml", tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    return path


def test_every_missing_file_is_a_fault(topology: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (topology.parent / "client.pem").write_text("")
    assert run(["validate", str(topology)]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("cannot use what the topology names: kafka.ca_file: ")
    assert f"; kafka.key_file: {topology.parent / 'client.key'} does not exist; " in said.err
    assert "client.pem" not in said.err
    assert said.err.count("\n") == 1


def test_a_secret_of_another_environment_is_noted(
    topology: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ca.pem", "client.pem", "client.key"):
        (topology.parent / name).write_text("")
    assert run(["validate", str(topology)]) == 0
    assert f"note: {VARIABLE} is not set here" in capsys.readouterr().out
    monkeypatch.setenv(VARIABLE, "canary-4711")
    assert run(["validate", str(topology)]) == 0
    said = capsys.readouterr()
    assert "note:" not in said.out
    assert "canary" not in said.out + said.err
