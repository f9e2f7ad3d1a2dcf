"""How to reach a Kafka cluster: the topology's settings, and the client's options they mean.

A secret is named by the settings, read when a client is made, and kept nowhere else. No client.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.limits import MIB

SCHEME = "kafka://"
SECURITY = {
    "plaintext": "plaintext", "tls": "ssl", "sasl_plaintext": "sasl_plaintext",
    "sasl_tls": "sasl_ssl",
}  # fmt: skip
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
PORT = 9092
_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")

FETCH_WAIT_MS = 100  # the broker says so often that there is nothing; also past a transaction's end
QUEUED_KIB = 16 * 1024  # fetched ahead by one consumer
FETCH_BYTES = 4 * MIB  # of one partition at once; a larger message still comes, alone
RECEIVE_BYTES = 1_000_000_000  # the largest answer taken at all; the broker's limits are below it
UNSENT_BYTES = 256 * MIB  # a producer holds so much while the broker is away, then it is Transient
BATCH_BYTES = 256 * 1024  # sent at once: below what a topic of small messages is limited to
UNSENT_MESSAGES = 400_000
HELD_BYTES_MAX = 2 * UNSENT_BYTES  # an empty one takes so much at once


@dataclass(frozen=True)
class KafkaSettings:
    """The topology's section ``kafka``. ``timeout_s`` bounds every question to the cluster."""

    security: str = "plaintext"  # a key of SECURITY
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    sasl_mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password_env: str = ""  # the name of an environment variable
    password_file: Path | None = None
    group: str = ""  # empty: the pipeline's name
    replication: int = -1  # of topics that are created here; -1: what the broker does by default
    timeout_s: float = 3.0

    @property
    def sasl(self) -> bool:
        """Whether it logs in with a name and a password."""
        return self.security.startswith("sasl_")

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security.endswith("tls")


def servers_of(url: str) -> str:
    """``host:port,...`` of a broker URL. InvalidConfiguration, which never repeats a secret."""
    rest = url.removeprefix(SCHEME).rstrip("/")
    if "@" in rest:
        raise InvalidConfiguration(
            f"use the broker {SCHEME}...", ["its URL holds a user or a password"],
            "write kafka.username, and kafka.password_env or kafka.password_file",
        )  # fmt: skip
    found = [_SERVER.fullmatch(server.strip()) for server in rest.split(",")]
    if not url.startswith(SCHEME) or any(f is None or int(f[2] or PORT) > 65535 for f in found):
        raise InvalidConfiguration(
            f"use the broker {url!r}", ["it is not a list of hosts"],
            f"write {SCHEME}HOST:PORT,HOST:PORT",
        )  # fmt: skip
    return ",".join(f"{match[1]}:{match[2] or PORT}" for match in found if match)


def client_options(servers: str, settings: KafkaSettings) -> dict[str, object]:
    """What every client of the cluster is made with, the password included: never to be shown."""
    options: dict[str, object] = {
        "bootstrap.servers": servers,
        "client.id": "sda-pipeline",
        "security.protocol": SECURITY[settings.security],
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
        "socket.keepalive.enable": True,
        "socket.timeout.ms": max(1000, round(1000 * settings.timeout_s)),
        "socket.connection.setup.timeout.ms": max(1000, round(1000 * settings.timeout_s)),
        "topic.metadata.refresh.interval.ms": 30_000,
        "allow.auto.create.topics": False,
        "log_level": 0,  # its own lines on stderr are no events; error_cb hears all of them
    }
    if settings.tls:
        files = {
            "ssl.ca.location": settings.ca_file,
            "ssl.certificate.location": settings.certificate_file,
            "ssl.key.location": settings.key_file,
        }
        options |= {name: str(path) for name, path in files.items() if path is not None}
    if settings.sasl:
        options |= {
            "sasl.mechanism": settings.sasl_mechanism,
            "sasl.username": settings.username,
            "sasl.password": read_password(settings),
        }
    return options


def group_options(group: str) -> dict[str, object]:
    """What speaks for a group, without ever joining it: nothing is committed by itself."""
    return {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
    }


def consumer_options(group: str) -> dict[str, object]:
    """A consumer's own (SPEC 4). It is assigned its partitions."""
    return {
        **group_options(group),
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "check.crcs": True,
        "fetch.wait.max.ms": FETCH_WAIT_MS,
        "fetch.queue.backoff.ms": 10,
        "fetch.error.backoff.ms": 100,
        "queued.max.messages.kbytes": QUEUED_KIB,
        "max.partition.fetch.bytes": FETCH_BYTES,
        "fetch.max.bytes": 4 * FETCH_BYTES,
        "receive.message.max.bytes": RECEIVE_BYTES,
    }


def producer_options() -> dict[str, object]:
    """A producer's own (SPEC 4). A message waits for the broker as long as its process lives."""
    return {
        "acks": "all",
        "enable.idempotence": True,
        "max.in.flight.requests.per.connection": 5,
        "partitioner": "murmur2",  # of the key, as the Java clients do
        "linger.ms": 5,
        "batch.size": BATCH_BYTES,
        "message.timeout.ms": 0,
        "message.max.bytes": RECEIVE_BYTES,  # the broker's limit decides
        "queue.buffering.max.messages": UNSENT_MESSAGES,
        "queue.buffering.max.kbytes": HELD_BYTES_MAX // 1024,
    }


def read_password(settings: KafkaSettings) -> str:
    """From where the settings say. InvalidConfiguration, naming the place, when it is not there."""
    if settings.password_file is not None:
        try:
            return settings.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise InvalidConfiguration(
                f"read the Kafka password from {settings.password_file}", [str(why)],
                "correct kafka.password_file",
            ) from error  # fmt: skip
    if settings.password_env not in os.environ:
        raise InvalidConfiguration(
            f"read the Kafka password from the environment variable {settings.password_env}",
            ["it is not set"], "export it where the pipeline is started",
        )  # fmt: skip
    return os.environ[settings.password_env]
