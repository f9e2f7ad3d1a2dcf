"""The example topology for one's own servers, and what ``make run-kafka`` makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml

from sda_pipeline.topology import load_topology
from tests.servers.kafka_demo import EXAMPLE, ROOT, own_topology


def test_the_example_is_the_repositorys_topology_on_other_servers() -> None:
    own, example = load_topology(ROOT / "topology.yaml"), load_topology(EXAMPLE)
    assert example.broker.startswith("kafka://")
    assert example.s3 is not None
    assert example.kafka.password_env
    places = ("state", "broker", "subscriber", "catalogue", "sensors", "kafka", "s3")
    assert replace(example, **{name: getattr(own, name) for name in places}) == own


def test_the_demo_runs_on_the_servers_it_is_told_of(tmp_path: Path) -> None:
    told = {
        "KAFKA_BOOTSTRAP": "127.0.0.1:19092",
        "S3_ENDPOINT": "http://127.0.0.1:7070",
        "S3_BUCKET": "trial",
    }
    path = tmp_path / "topology.yaml"
    path.write_text(yaml.safe_dump(own_topology(EXAMPLE.read_text(), told)))
    topology = load_topology(path)
    assert topology.broker == "kafka://127.0.0.1:19092"
    assert topology.s3 is not None
    assert (topology.s3.bucket, topology.s3.endpoint) == ("trial", "http://127.0.0.1:7070")
    assert topology.state == tmp_path / "state"
    assert not topology.kafka.sasl
