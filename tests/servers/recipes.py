"""How each server is fetched and where it then lies: jars by Maven, Go programs by ``go install``.

Pinned versions; each recipe is done at once when the cache has it. Not how a server runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sda_pipeline.errors import Unreachable
from tests.servers.cache import (
    FETCH_WITHIN_S,
    NotFetched,
    cache_root,
    damaged,
    filling,
    make,
    pinned,
    run,
    say,
    sha256,
    tool,
)
from tests.servers.java_runtime import fetch_java, java_home

KAFKA_VERSION, LOG4J_VERSION = "4.4.0", "2.25.5"
COPY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
JARS = pinned(Path(__file__).with_name("kafka_jars.sha256"))
BUILD_WITHIN_S = 1800.0

_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>sda.pipeline</groupId>
  <artifactId>kafka-server</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{kafka}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>{log4j}</version>
    </dependency>
  </dependencies>
</project>
"""


@dataclass(frozen=True)
class GoProgram:
    """A server built by Go."""

    title: str
    module: str  # what `go install` builds
    version: str
    installed_as: str  # the name that Go gives it
    name: str

    @property
    def directory(self) -> Path:
        return cache_root() / f"{self.name}-{self.version}"

    @property
    def path(self) -> Path:
        return self.directory / self.name

    def fetch(self) -> bool:
        """Build it unless it is there and whole; True when it had to be built."""
        if self._is_whole():
            return False
        action = f"fetch {self.title}"
        with filling(cache_root()):
            if self._is_whole():
                return False
            go = tool(action, "go", "install Go 1.25 or newer, then `make infra`")
            say(f"building {self.title} {self.version} by Go: some minutes, once")
            make(self.directory, lambda staging: self._build(action, go, staging))
        return True

    def _build(self, action: str, go: str, staging: Path) -> None:
        hint = "check that Go is 1.25 or newer and reaches its module proxy, then `make infra`"
        argv = [go, "install", "-ldflags=-s -w", f"{self.module}@{self.version}"]
        mode = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOBIN": str(staging)}
        run(action, argv, BUILD_WITHIN_S, hint, **mode)
        built = staging / self.name
        (staging / self.installed_as).rename(built)
        (staging / "sha256").write_text(sha256(built))

    def _is_whole(self) -> bool:
        """Go checked the sources; what it built must not have changed since."""
        digest = self.directory / "sha256"
        return self.path.is_file() and digest.is_file() and digest.read_text() == sha256(self.path)

    def installed(self) -> Path:
        """Path of the program, or the error that names the command which brings it."""
        if not self.path.is_file():
            raise NotFetched(self.title)
        return self.path


VERSITYGW = GoProgram(
    "VersityGW", "github.com/versity/versitygw/cmd/versitygw", "v1.8.0", "versitygw", "versitygw"
)
TOXIPROXY = GoProgram(
    "Toxiproxy", "github.com/Shopify/toxiproxy/v2/cmd/server", "v2.9.0", "server", "toxiproxy"
)


def kafka_jars() -> Path:
    """Where the broker's jars lie, or lie once fetched."""
    return cache_root() / f"kafka-{KAFKA_VERSION}"


def installed_kafka() -> Path:
    """The directory of the broker's jars, or the error that names the command which brings it."""
    if not all((kafka_jars() / name).is_file() for name in JARS):
        raise NotFetched("Kafka")
    return kafka_jars()


def fetch_kafka() -> bool:
    """Java, then the broker's jars; True when anything had to be fetched."""
    fetched = fetch_java()
    if not damaged(kafka_jars(), JARS):
        return fetched
    action = "fetch Kafka"
    with filling(cache_root()):
        if not damaged(kafka_jars(), JARS):
            return fetched
        maven = tool(action, "mvn", "install Maven (Debian: `apt-get install maven`), `make infra`")
        say(f"fetching Kafka {KAFKA_VERSION} by Maven: {len(JARS)} jars, 43 MB")
        make(kafka_jars(), lambda staging: _copy_jars(action, maven, staging))
    return True


def _copy_jars(action: str, maven: str, staging: Path) -> None:
    pom = staging / "pom.xml"
    pom.write_text(_POM.format(kafka=KAFKA_VERSION, log4j=LOG4J_VERSION))
    argv = [maven, "-B", "-q", "-f", str(pom), COPY_PLUGIN, f"-DoutputDirectory={staging}"]
    hint = "check that Maven reaches its repository, then `make infra`"
    run(action, argv, FETCH_WITHIN_S, hint, JAVA_HOME=str(java_home()))
    pom.unlink()
    faults = damaged(staging, JARS)
    if faults:
        hint = "remove the wrong jar from Maven's local repository, then `make infra`"
        raise Unreachable(action, "; ".join(faults), hint)
