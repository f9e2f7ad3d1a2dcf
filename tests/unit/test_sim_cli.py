"""``sda-sim`` as a user calls it, with real files and the embedded broker."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import orjson
import pytest

from sda_pipeline.broker.connect import open_consumer
from sda_pipeline.cli.sim.default_sensors import default_sensors_text
from sda_pipeline.cli.sim.main import main
from sda_pipeline.cli.sim.recording import read_recording
from sda_pipeline.cli.sim.truth import read_truth
from sda_pipeline.records.observations import TOPICS
from sda_pipeline.topology import load_inputs, load_topology
from tests.unit.sim_rig import reduced, scene

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = ["catalogue", "--epoch", "2026-04-01T00:00:00Z", "--objects", "120", "--minutes", "1"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "topology.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sim(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_catalogue_record_and_play(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sim(*CATALOGUE) == 0
    assert "120 objects, 30 engineered encounters" in capsys.readouterr().out
    assert (site / "sensors.yaml").read_text() == default_sensors_text()
    assert load_inputs(load_topology(site / "topology.yaml")).catalogue.n == 120

    faults = ["--corrupt", "0.1", "--duplicates", "0.1", "--late", "0.05"]
    for name in ("a.jsonl", "b.jsonl"):
        assert sim("record", name, "--for", "40s", "--rate", "50", *faults, "--json") == 0
    assert (site / "a.jsonl").read_bytes() == (site / "b.jsonl").read_bytes()
    told = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["faults"] > 200

    truth = read_truth(site / "a.jsonl.truth.json", (site / "run/catalogue.tle").read_bytes())
    assert len(truth.faults) == told["faults"]
    assert truth.traffic is not None
    assert truth.traffic.messages == told["by_topic"]

    assert sim("play", "a.jsonl", "--speed", "max") == 0
    recorded = [m for m, _ in read_recording(site / "a.jsonl")]
    for topic in TOPICS.values():
        mine = [m for m in recorded if m.topic == topic]
        consumer = open_consumer(f"embedded:{site}/run/broker", topic, "test", 1)
        batch = consumer.consume(len(mine) + 1, 1 << 30, 1.0)
        consumer.close()
        assert batch.values == [m.value for m in mine]
        assert batch.keys == [m.key for m in mine]
        assert batch.timestamps_ms.tolist() == [m.timestamp_ms for m in mine]


def test_existing_sensors_are_kept_and_a_running_catalogue_too(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "sensors.yaml").write_text("# mine\n" + default_sensors_text())
    small = ["--objects", "30", "--minutes", "3", "--per-minute", "4", "--json"]
    assert sim("catalogue", *small) == 0
    before = (site / "run/catalogue.tle").read_bytes()
    told = orjson.loads(capsys.readouterr().out)
    assert (told["written"], told["sensors_written"], told["engineered"]) == (True, False, 12)
    assert (site / "sensors.yaml").read_text().startswith("# mine\n")
    assert sim("catalogue", "--keep-current", *small) == 0
    assert orjson.loads(capsys.readouterr().out)["written"] is False
    assert (site / "run/catalogue.tle").read_bytes() == before
    assert sim("catalogue", "--keep-current", *small[:4], "--per-minute", "4") == 0
    assert "more minutes of encounters" in capsys.readouterr().out
    assert sim(*CATALOGUE, "--keep-current") == 0  # the same: it still has encounters
    (site / "run/catalogue.tle").write_bytes(before + b"\n")  # no longer what the truth is about
    assert sim("catalogue", "--keep-current", *small) == 0
    assert orjson.loads(capsys.readouterr().out.splitlines()[-1])["written"] is True


def test_a_short_run_sends_into_the_broker(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--objects", "30", "--minutes", "1", "--per-minute", "10"]
    assert sim("catalogue", *small) == 0
    assert sim("run", "--for", "1s", "--rate", "200", "--corrupt", "0.2", "--json") == 0
    told = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["by_topic"]["sda.obs.radar"] > 50
    consumer = open_consumer(f"embedded:{site}/run/broker", "sda.obs.radar", "test", 1)
    assert sum(consumer.lag().values()) == told["by_topic"]["sda.obs.radar"]
    consumer.close()
    truth = read_truth(site / "run/catalogue.tle.run-truth.json")
    assert len(truth.faults) == told["faults"] > 0


def test_iridium_33_and_cosmos_2251(site: Path) -> None:
    """Noise-free observations of an arbitrary catalogue, without a truth file."""
    (site / "run").mkdir()
    shutil.copy(ROOT / "sensors.yaml", site)
    shutil.copy(ROOT / "tests/fixtures/iridium33-cosmos2251.tle", site / "run/catalogue.tle")
    arguments = ["--on-catalogue", "--noise-free", "--all-objects"]
    assert sim("record", "o.jsonl", *arguments, "--from", "2009-02-10T16:55:00Z") == 2
    assert (
        sim("record", "o.jsonl", *arguments, "--from", "2009-02-10T16:55:00Z", "--for", "60s") == 0
    )
    truth = read_truth(site / "o.jsonl.truth.json")
    (encounter,) = truth.encounters
    assert (encounter.sat1, encounter.sat2) == (22675, 24946)
    assert encounter.tca.startswith("2009-02-10T16:55:59.7957")
    assert encounter.miss_m == pytest.approx(698.01, abs=0.05)
    assert encounter.rel_speed_m_s == pytest.approx(11_647.24, abs=0.02)
    inputs = load_inputs(load_topology(site / "topology.yaml"))
    of = scene()._replace(
        catalogue=inputs.catalogue, sites=scene().sites._replace(registry=inputs.sensors)
    )
    recorded = [m for m, _ in read_recording(site / "o.jsonl")]
    seen = {22675: 0, 24946: 0}
    for _, batch in reduced(of, recorded).values():  # type: ignore[arg-type]
        assert batch.rejects == []
        assert float(np.max(batch.rows["nis"], initial=0.0)) < 1e-4
        for sat in batch.rows["sat"].tolist():
            seen[sat] += 1
    assert min(seen.values()) >= 10


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["run", "--for", "soon"], 2, "cannot run `sda-sim run`: Invalid value for '--for'"),
        (["catalogue", "--epoch", "yesterday"], 2, "is not a UTC time like"),
        (["play", "x", "--speed", "0"], 2, "is not a factor above 0"),
        (["play", "missing.jsonl"], 2, "cannot play missing.jsonl: No such file"),
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["catalogue", "--objects", "10"], 2, "need at least"),
        (["run", "--topology", "none.yaml"], 3, "none.yaml"),
        (["run"], 3, "cannot load catalogue and sensors"),
        (["run", "--all-objects"], 2, "give --for"),
    ],
)
def test_wrong_use_is_one_line(
    site: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, line: str
) -> None:
    assert sim(*arguments) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert line in said.err
    assert said.err.startswith("cannot ")
    assert "; " in said.err
    assert len(said.err.splitlines()) == 1


def test_a_truth_that_is_missing_or_foreign_is_refused(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sim(*CATALOGUE) == 0
    truth = site / "run/catalogue.tle.truth.json"
    raw = msgspec.json.decode(truth.read_bytes())
    raw["catalogue_sha256"] = "0"
    truth.write_bytes(msgspec.json.encode(raw))
    assert sim("record", "x.jsonl") == 3
    assert "belongs to another catalogue" in capsys.readouterr().err
    truth.unlink()
    assert sim("record", "x.jsonl") == 3
    assert "--on-catalogue" in capsys.readouterr().err
    assert not (site / "x.jsonl").exists()


@pytest.mark.parametrize("command", ["catalogue", "run", "record", "play"])
def test_help_teaches(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert sim(command, "--help") == 0
    assert "topology.yaml" in capsys.readouterr().out
