"""A real Apache Kafka of one to three KRaft nodes on loopback, in a directory of the caller.

The directory outlives the nodes: what is started again keeps its log. Not the tests' client.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from sda_pipeline.clock import SystemClock
from tests.servers import kafka_properties
from tests.servers.fault_proxy import FaultProxies, FaultProxy
from tests.servers.java_runtime import java_home
from tests.servers.kafka_certificates import make_certificates
from tests.servers.kafka_properties import CLUSTER_ID, LOG4J, USER, NodePorts, Security
from tests.servers.loopback_ports import HOST, Port, accepts
from tests.servers.recipes import installed_kafka
from tests.servers.server_process import READY_WITHIN_S, STOP_WITHIN_S, Served, ServerProcess

JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
ANSWER_WITHIN_S = 1.0


class KafkaServer(Served):
    """A cluster. ``with KafkaServer(directory) as kafka: kafka.bootstrap``.

    ``extra`` are properties of every node. With ``behind`` every node gets a proxy
    (``kafka.proxies[node]``), ``bootstrap`` is the proxies', and so is what nodes tell clients.
    """

    def __init__(
        self,
        directory: Path,
        nodes: int = 1,
        *,
        security: Security | None = None,
        extra: Mapping[str, str] | None = None,
        behind: FaultProxies | None = None,
    ) -> None:
        assert 1 <= nodes <= 3, "one to three nodes"
        self.directory, self.security = directory, security or Security()
        self.extra = dict(extra or {})
        self._jars, self._java = installed_kafka(), java_home() / "bin" / "java"
        self._claims: list[Port] = []
        self.ports = {node: self._take_ports() for node in range(1, nodes + 1)}
        self.proxies: dict[int, FaultProxy] = {}
        if behind is not None:
            self._put_proxies_before(behind)
        directory.mkdir(parents=True, exist_ok=True)
        self.user, self.password = USER, _password(directory / "password")
        self.certificates = make_certificates(directory / "tls") if self.security.tls else None
        (directory / "log4j2.properties").write_text(LOG4J)
        self.nodes = {node: self._process(node) for node in self.ports}

    @property
    def bootstrap(self) -> str:
        """What a client of the pipeline is given."""
        return ",".join(f"{HOST}:{ports.advertised}" for ports in self.ports.values())

    @property
    def internal(self) -> str:
        """Plaintext, past every proxy: for tests that look at the truth."""
        return ",".join(f"{HOST}:{ports.internal}" for ports in self.ports.values())

    def client(self) -> dict[str, str]:
        """librdkafka's settings for ``bootstrap`` with this cluster's security."""
        settings = {"bootstrap.servers": self.bootstrap}
        if self.security != Security():
            settings["security.protocol"] = self.security.protocol
        if self.certificates is not None:
            settings["ssl.ca.location"] = str(self.certificates.authority)
        if self.security.scram:
            settings |= {
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": self.user,
                "sasl.password": self.password,
            }
        return settings

    def start(self, nodes: Iterable[int] | None = None) -> None:
        """Start these nodes (all) and wait until each knows of every node that runs."""
        chosen = list(nodes or self.nodes)
        self._format(chosen)
        for node in chosen:
            self._write_properties(node)
            self.nodes[node].start()
        for node in chosen:
            self.nodes[node].await_ready(lambda node=node: self.answers(node))

    def answers(self, node: int) -> bool:
        """Whether a Metadata request to this node names every node that runs."""
        port = self.ports[node].internal
        if not accepts(port):
            return False
        running = {n for n, process in self.nodes.items() if process.running}
        client = AdminClient(
            {
                "bootstrap.servers": f"{HOST}:{port}",
                "log_level": 0,
                "error_cb": lambda _error: None,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 100,
            }
        )
        try:
            return running <= client.list_topics(timeout=ANSWER_WITHIN_S).brokers.keys()
        except KafkaException:
            return False

    def stop(self) -> None:
        """SIGTERM to every node; SIGKILL for what is not down in time."""
        clock = SystemClock()
        deadline = clock.monotonic_ns() + round(STOP_WITHIN_S * 1e9)
        for process in self.nodes.values():
            process.ask_to_stop()
        for process in self.nodes.values():
            process.reap(max(0.0, (deadline - clock.monotonic_ns()) / 1e9))

    def kill(self, *nodes: int) -> None:
        """SIGKILL these nodes (all)."""
        for node in nodes or self.nodes:
            self.nodes[node].kill()

    def pause(self, *nodes: int) -> None:
        """SIGSTOP these nodes (all): connected, silent."""
        for node in nodes or self.nodes:
            self.nodes[node].pause()

    def resume(self, *nodes: int) -> None:
        """SIGCONT these nodes (all)."""
        for node in nodes or self.nodes:
            self.nodes[node].resume()

    def close(self) -> None:
        """Kill what runs and give the ports back; the directory stays."""
        self.kill()
        for claim in self._claims:
            claim.release()

    def story(self) -> str:
        """The end of every node's log."""
        return "\n".join(f"{p.name}: {p.story()}" for p in self.nodes.values())

    def _take_ports(self) -> NodePorts:
        claims = [Port(), Port(), Port()]
        self._claims += claims
        client, internal, controller = (claim.number for claim in claims)
        return NodePorts(client, internal, controller, client)

    def _put_proxies_before(self, behind: FaultProxies) -> None:
        for node, own in self.ports.items():
            proxy = self.proxies[node] = behind.add(f"{HOST}:{own.client}")
            self.ports[node] = replace(own, advertised=proxy.port.number)

    def _home(self, node: int) -> Path:
        return self.directory / f"node-{node}"

    def _properties(self, node: int) -> Path:
        return self._home(node) / "server.properties"

    def _process(self, node: int) -> ServerProcess:
        self._home(node).mkdir(exist_ok=True)
        argv = self._run_java("kafka.Kafka", str(self._properties(node)))
        return ServerProcess(f"Kafka node {node}", argv, self._home(node) / "broker.log")

    def _run_java(self, main: str, *arguments: str) -> list[str]:
        heap = "-Xmx512m" if len(self.ports) == 1 else "-Xmx400m"
        log4j = f"-Dlog4j2.configurationFile={self.directory / 'log4j2.properties'}"
        return [str(self._java), heap, *JVM, log4j, "-cp", f"{self._jars}/*", main, *arguments]

    def _write_properties(self, node: int) -> None:
        pem = self.certificates.server if self.certificates else None
        found = kafka_properties.node_properties(
            node, self.ports, self._home(node), self.security, pem, self.extra
        )
        self._properties(node).write_text(kafka_properties.text(found))

    def _format(self, nodes: Iterable[int]) -> None:
        """Make the storage of nodes that have none; the SCRAM user is in it from the start."""
        formatting = []
        for node in nodes:
            if (self._home(node) / "logs" / "meta.properties").is_file():
                continue
            self._write_properties(node)
            arguments = ["format", "-t", CLUSTER_ID, "-c", str(self._properties(node))]
            if self.security.scram:
                user = f"SCRAM-SHA-512=[name={self.user},password={self.password}]"
                arguments += ["--add-scram", user]
            argv = self._run_java("kafka.tools.StorageTool", *arguments)
            log = self._home(node) / "format.log"
            process = ServerProcess(f"the format of Kafka node {node}", argv, log)
            process.start()
            formatting.append(process)
        for process in formatting:
            process.finish(READY_WITHIN_S)


def _password(file: Path) -> str:
    """Made once for a directory: the storage formatted there knows it."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(18))
    return file.read_text()
