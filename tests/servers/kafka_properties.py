"""What a test broker's ``server.properties`` says, and why. Pure: text in, text out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.servers.loopback_ports import HOST

CLUSTER_ID = "c2RhLXBpcGVsaW5lLWthZg"  # any 16 bytes; every cluster has its own directory
USER = "sda"


@dataclass(frozen=True)
class NodePorts:
    """Where one node listens. ``client`` is what the pipeline uses, with the security under test;
    ``internal`` is plaintext, for other nodes, readiness and the tests' own look at the truth.
    """

    client: int
    internal: int
    controller: int
    advertised: int  # what the client listener tells clients: ``client``, or a proxy before it


@dataclass(frozen=True)
class Security:
    """How the client listener is protected."""

    scram: bool = False
    tls: bool = False

    @property
    def protocol(self) -> str:
        """Kafka's name for it."""
        return ("SASL_" if self.scram else "") + ("SSL" if self.tls else "PLAINTEXT")


def node_properties(
    node: int,
    ports: Mapping[int, NodePorts],
    directory: Path,
    security: Security,
    pem: Path | None,
    extra: Mapping[str, str],
) -> dict[str, str]:
    """All properties of one node of a cluster of ``len(ports)``; ``extra`` wins."""
    replicas = str(min(3, len(ports)))
    own = ports[node]
    properties = {
        "node.id": str(node),
        "process.roles": "broker,controller",
        "controller.quorum.voters": ",".join(
            f"{n}@{HOST}:{p.controller}" for n, p in ports.items()
        ),
        "listeners": f"CLIENT://{HOST}:{own.client},INTERNAL://{HOST}:{own.internal},"
        f"CONTROLLER://{HOST}:{own.controller}",
        "advertised.listeners": f"CLIENT://{HOST}:{own.advertised},INTERNAL://{HOST}:{own.internal}",
        "listener.security.protocol.map": f"CLIENT:{security.protocol},INTERNAL:PLAINTEXT,"
        "CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "INTERNAL",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(directory / "logs"),
        "auto.create.topics.enable": "false",
        "num.partitions": "1",
        "default.replication.factor": replicas,
        "min.insync.replicas": "2" if len(ports) > 1 else "1",
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.min.isr": "2" if len(ports) > 1 else "1",
        "group.initial.rebalance.delay.ms": "0",
        # After kill -9 a broker waits until its old session has ended; 9 s by default.
        "broker.session.timeout.ms": "1000",
        "broker.heartbeat.interval.ms": "250",
        # Retention looks at once and often, for tests that wait until it has removed something.
        "log.retention.check.interval.ms": "500",
        "log.initial.task.delay.ms": "500",
        "log.segment.delete.delay.ms": "500",
        "log.cleaner.dedupe.buffer.size": str(8 << 20),
        # Times come from recordings and may be years old; by default that is a fault or a deletion.
        "log.retention.ms": "-1",
        "log.message.timestamp.before.max.ms": str(2**63 - 1),
    }
    if security.scram:
        properties["listener.name.client.sasl.enabled.mechanisms"] = "SCRAM-SHA-512"
        properties["listener.name.client.scram-sha-512.sasl.jaas.config"] = (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        )
    if security.tls:
        assert pem is not None, "TLS needs a certificate"
        properties["listener.name.client.ssl.keystore.type"] = "PEM"
        properties["listener.name.client.ssl.keystore.location"] = str(pem)
    return properties | dict(extra)


def text(properties: Mapping[str, str]) -> str:
    """The file's content."""
    return "".join(f"{key}={value}\n" for key, value in properties.items())


LOG4J = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %m (%c{1})%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.server.name = kafka.server
logger.server.level = info
"""
