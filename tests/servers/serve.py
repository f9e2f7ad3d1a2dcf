"""A broker and an S3 store for as long as a command runs, or until Ctrl-C. Not for production.

The command finds both by environment variables; other terminals by the file ``servers.env``.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sda_pipeline.errors import UsageError
from tests.servers.cache import say
from tests.servers.kafka_server import KafkaServer
from tests.servers.kafka_topics import Topics
from tests.servers.s3_server import S3Server
from tests.servers.server_process import leashed

ENVIRONMENT_FILE = "servers.env"
_SIGNALLED = 128  # what a shell adds to the signal's number
_WOULD_WIN = {"AWS_PROFILE", "AWS_SESSION_TOKEN"}  # over the key and the secret given here


@dataclass(frozen=True)
class Topic:
    """A topic to be there before the command starts."""

    name: str
    partitions: int

    @classmethod
    def parse(cls, text: str) -> Topic:
        """``NAME`` or ``NAME:PARTITIONS``."""
        name, _, count = text.partition(":")
        if not name or (count and not count.isdecimal()) or count == "0":
            why = f"{text!r} is not NAME or NAME:PARTITIONS"
            raise UsageError("make a topic", why, "for instance --topic sda.obs.radar:2")
        return cls(name, int(count or "1"))


def serve(directory: Path | None, topics: Sequence[Topic], command: Sequence[str]) -> int:
    """Run both until the command ends (its exit code) or a signal says so (0).

    With a directory, topics and objects are there again the next time; else nothing stays. A signal
    that comes before both run ends this program, and they die with it.
    """
    if command:
        command = [_program(command[0]), *command[1:]]
    with (
        _home(directory) as home,
        KafkaServer(home / "kafka") as kafka,
        S3Server(home / "s3") as s3,
    ):
        for topic in topics:
            Topics(kafka).ensure(topic.name, topic.partitions)
        variables = {
            "KAFKA_BOOTSTRAP": kafka.bootstrap,
            "S3_ENDPOINT": s3.endpoint,
            "S3_BUCKET": s3.bucket,
            **s3.environment(),
        }
        say(f"Kafka at {kafka.bootstrap}, S3 at {s3.endpoint}, bucket {s3.bucket}")
        with _written(home / ENVIRONMENT_FILE, variables) as file:
            say(f"for other terminals: set -a; . {shlex.quote(str(file))}; set +a")
            code = _until_ended(command, variables) if command else _until_told()
        kafka.stop()
        s3.stop()
        say("Kafka and S3 are stopped")
    return code


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise UsageError(f"run {name}", "there is no such program", "name one after --")
    return path


def _until_told() -> int:
    """Wait for SIGINT, SIGTERM or SIGHUP."""
    told = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda *_: told.set())
    say("Ctrl-C stops them")
    told.wait()
    return 0


def _until_ended(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run the command to its end. Ctrl-C reaches it by itself; other signals are passed on."""
    others = {name: value for name, value in os.environ.items() if name not in _WOULD_WIN}
    process = leashed(command, {**others, **variables})
    signal.signal(signal.SIGINT, lambda *_: None)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda given, _: process.send_signal(given))
    code = process.wait()
    return code if code >= 0 else _SIGNALLED - code


@contextmanager
def _home(directory: Path | None) -> Iterator[Path]:
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        yield directory.resolve()
        return
    made = Path(tempfile.mkdtemp(prefix="sda-servers-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _written(file: Path, variables: Mapping[str, str]) -> Iterator[Path]:
    """The variables for a shell, readable by their owner only; gone afterwards."""
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    try:
        file.write_text("".join(f"{k}={shlex.quote(v)}\n" for k, v in variables.items()))
        yield file
    finally:
        file.unlink(missing_ok=True)
