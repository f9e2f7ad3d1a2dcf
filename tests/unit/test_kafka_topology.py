"""The topology's section ``kafka``: what it means, faults with their place, no secret anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from sda_pipeline.broker.kafka_settings import (
    KafkaSettings,
    client_options,
    consumer_options,
    producer_options,
    servers_of,
)
from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.topology import Topology, from_resolved_json, to_resolved_json
from sda_pipeline.topology_parse import parse_topology
from tests.unit.topology_rig import ROOT

SECRET = "canary-4711"
SASL = "security: sasl_tls\n  username: sda\n  password_env: SDA_KAFKA_PASSWORD"


def parsed(section: str = "", url: str = "kafka://one:9092,two") -> Topology:
    """The repository's topology on Kafka."""
    text = (ROOT / "topology.yaml").read_text()
    kafka = f"kafka:\n  {section}\n" if section else ""
    return parse_topology(
        text.replace("broker: embedded:run/broker", f"{kafka}broker: {url}").encode(),
        ROOT / "topology.yaml",
    )


def faults(section: str, url: str = "kafka://one:9092,two") -> str:
    with pytest.raises(InvalidConfiguration) as caught:
        parsed(section, url)
    assert all(fault.startswith("topology.yaml:") for fault in caught.value.faults)
    return str(caught.value)


def test_defaults() -> None:
    topology = parsed()
    assert topology.broker == "kafka://one:9092,two:9092"
    assert topology.kafka == KafkaSettings()
    assert topology.group == topology.pipeline == "sda"


def test_everything_said() -> None:
    topology = parsed(
        f"{SASL}\n  ca_file: ca.pem\n  sasl_mechanism: SCRAM-SHA-256\n  group: other\n"
        "  certificate_file: c.pem\n  key_file: k.pem\n  replication: 3\n  timeout_s: 0.5"
    )
    assert topology.kafka == KafkaSettings(
        security="sasl_tls", ca_file=ROOT / "ca.pem", certificate_file=ROOT / "c.pem",
        key_file=ROOT / "k.pem", sasl_mechanism="SCRAM-SHA-256", username="sda",
        password_env="SDA_KAFKA_PASSWORD", group="other", replication=3, timeout_s=0.5,
    )  # fmt: skip
    assert topology.group == "other"
    assert from_resolved_json(to_resolved_json(topology)) == topology


WRONG = [
    ("security: ssl", "kafka.security: 'ssl' is not one of plaintext, tls"),
    ("ca_file: ca.pem", "kafka.ca_file: means nothing with security plaintext"),
    ("username: me", "kafka.username: means nothing with security plaintext"),
    ("security: sasl_tls\n  password_env: A", "kafka.username: is required with security sasl_tls"),
    (
        "security: sasl_tls\n  username: a",
        "password_env: or password_file is required, one of them",
    ),
    (f"{SASL}\n  password_file: f", "password_env: or password_file is required, one of them"),
    (f"{SASL}\n  sasl_mechanism: GSSAPI", "kafka.sasl_mechanism: 'GSSAPI' is not one of PLAIN"),
    ("security: tls\n  key_file: k", "kafka.certificate_file: and key_file go together"),
    ("replication: 0", "kafka.replication: 0 is no number of replicas"),
    ("timeout_s: 0", "kafka.timeout_s: 0 is not within 0.1 and 30"),
    ("grop: a", "kafka.grop: is not known here; did you mean group"),
    ("group: a b", "kafka.group: 'a b' does not match"),
]


@pytest.mark.parametrize(("section", "fault"), WRONG, ids=[section for section, _ in WRONG])
def test_a_wrong_value_is_named_with_its_place(section: str, fault: str) -> None:
    assert fault in faults(section)


def test_all_faults_at_once() -> None:
    told = faults("security: ssl\n  replication: 0\n  group: a b")
    assert all(word in told for word in ("security", "replication", "group"))


def test_a_section_without_kafka_is_a_fault() -> None:
    assert "kafka: needs a broker kafka://HOST:PORT" in faults("group: a", "embedded:run/broker")


@pytest.mark.parametrize("section", [f"password: {SECRET}", f"{SASL}\n  password: {SECRET}"])
def test_a_secret_in_the_file_is_refused_and_not_repeated(section: str) -> None:
    told = faults(section)
    assert "no secret stands in this file; write password_env: VARIABLE" in told
    assert SECRET not in told


def test_a_secret_in_the_url_is_refused_and_not_repeated() -> None:
    url = f"kafka://me:{SECRET}@host:9092"
    told = faults("", url)
    assert "its URL holds a user or a password; write kafka.username" in told
    assert SECRET not in told
    with pytest.raises(InvalidConfiguration) as caught:
        servers_of(url)
    assert SECRET not in str(caught.value)


def test_options_of_a_protected_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = KafkaSettings(
        security="sasl_tls", ca_file=tmp_path / "ca.pem", username="sda", password_env="CANARY"
    )
    monkeypatch.setenv("CANARY", SECRET)
    options = client_options("h:1", settings)
    assert options["security.protocol"] == "sasl_ssl"
    assert options["ssl.ca.location"] == str(tmp_path / "ca.pem")
    assert options["sasl.password"] == SECRET
    (tmp_path / "secret").write_text(SECRET + "\n")
    from_file = KafkaSettings(
        security="sasl_plaintext", username="sda", password_file=tmp_path / "secret"
    )
    assert client_options("h:1", from_file)["sasl.password"] == SECRET
    assert SECRET not in repr(settings) + repr(from_file)


def test_a_secret_that_is_not_there_is_named_by_its_place(tmp_path: Path) -> None:
    settings = KafkaSettings(security="sasl_plaintext", username="a", password_env="NOT_SET_HERE")
    with pytest.raises(InvalidConfiguration, match="NOT_SET_HERE: it is not set; export it"):
        client_options("h:1", settings)
    settings = KafkaSettings(
        security="sasl_plaintext", username="a", password_file=tmp_path / "nothing"
    )
    with pytest.raises(InvalidConfiguration, match=r"nothing: No such file .*correct kafka.passw"):
        client_options("h:1", settings)


def test_the_settings_of_the_specification() -> None:
    consumer, producer = consumer_options("g"), producer_options()
    assert consumer["auto.offset.reset"] == "error"
    assert consumer["isolation.level"] == "read_committed"
    assert consumer["enable.auto.commit"] is consumer["enable.auto.offset.store"] is False
    assert (producer["acks"], producer["enable.idempotence"]) == ("all", True)
    assert producer["max.in.flight.requests.per.connection"] == 5


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("kafka://h", "h:9092"),
        ("kafka://h:1,i:2/", "h:1,i:2"),
        ("kafka://[::1]:9,10.0.0.1", "[::1]:9,10.0.0.1:9092"),
    ],
)
def test_servers(url: str, servers: str) -> None:
    assert servers_of(url) == servers


@pytest.mark.parametrize(
    "url", ["kafka://", "kafka://a,,b", "kafka://a:99999", "kafka://a:b", "h:1"]
)
def test_wrong_servers(url: str) -> None:
    with pytest.raises(InvalidConfiguration, match="write kafka://HOST:PORT"):
        servers_of(url)
