"""Which pipeline is meant, whether it runs, and what it judges by. Read-only.

``--state`` names the state directory, or ``--topology`` a file that does. What the pipeline was
last started with (``topology.json`` in there) counts, not the file: it may be edited since.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sda_pipeline.errors import (
    AlreadyRunning,
    InvalidConfiguration,
    SdaError,
    Unreachable,
    UsageError,
)
from sda_pipeline.state.recovery import CORRELATOR, LOGS
from sda_pipeline.topology import Topology, from_resolved_json, load_topology

TOPOLOGY_FILE = Path("topology.yaml")
RESOLVED, LOCK, DLQ = "topology.json", "lock", "dlq"


@dataclass(frozen=True)
class Place:
    """A pipeline's files."""

    topology: Topology

    @property
    def state(self) -> Path:
        return self.topology.state

    @property
    def dlq(self) -> Path:
        return self.state / DLQ

    def log(self, source: str) -> Path:
        """The directory of a source's log."""
        return self.state / LOGS / source

    def topic_of(self, operator: str) -> str:
        """The topic a source reads; "" of what is no source of this topology."""
        if operator not in self.topology.sources:
            return ""
        return self.topology.operator(operator).topic or ""

    def reader_of(self, topic: str) -> str:
        """The source that reads a topic; "" when none does."""
        readers = (source for source in self.topology.sources if self.topic_of(source) == topic)
        return next(readers, "")

    def running(self) -> bool:
        """Whether a tree holds the state directory's lock. Leaves nothing behind."""
        if not (self.state / LOCK).exists():
            return False
        try:
            with locked(self, "look"):
                return False
        except AlreadyRunning:
            return True


def find(state: Path | None, topology: Path | None) -> Place:
    """The pipeline meant by the options. UsageError when nothing names one, or both do;
    InvalidConfiguration when it was never started, cannot be read, or belongs to another user.
    """
    if state is not None and topology is not None:
        why = "--state and --topology may name two"
        raise UsageError("tell which pipeline is meant", why, "give one of them")
    if state is None:
        file = topology or TOPOLOGY_FILE
        if topology is None and not file.exists():
            why = f"there is no {TOPOLOGY_FILE} in {Path.cwd()}"
            hint = "give --state DIR or --topology FILE"
            raise UsageError("tell which pipeline is meant", why, hint)
        state = load_topology(file).state
    state = state.resolve()
    action = f"read the pipeline in {state}"
    try:
        if state.stat().st_uid != os.geteuid():
            # Files of ours in it would keep its owner from starting it.
            why = f"it belongs to user {state.stat().st_uid}, not to {os.geteuid()}"
            raise InvalidConfiguration(action, [why], "run as its owner")
        return Place(from_resolved_json((state / RESOLVED).read_bytes()))
    except FileNotFoundError as error:
        why = "there is none" if not state.exists() else f"it has no {RESOLVED}"
        hint = "name the state directory of one that was started once"
        raise InvalidConfiguration(action, [why], hint) from error
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
        raise InvalidConfiguration(action, [why], "see its rights") from error


@contextmanager
def locked(place: Place, action: str) -> Iterator[None]:
    """Hold the state directory as a supervisor would. AlreadyRunning when one does."""
    path = place.state / LOCK
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unreachable(f"open {path}", error.strerror or str(error), "see its rights") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            why = f"the pipeline in {place.state} is running"
            hint = "stop it first: sda-supervisor stop"
            raise AlreadyRunning(action, why, hint) from error
        yield
    finally:
        os.close(fd)


@dataclass(frozen=True)
class Judges:
    """The hashes of catalogue, sensors and physics: of the files, of the state; None: unknown."""

    files: int | None
    state: int | None
    running: bool

    @property
    def in_use(self) -> int | None:
        """What will judge a record that is sent now: a running pipeline does not read its files
        again, a stopped one reads them when it starts.
        """
        return self.state if self.running else self.files

    @property
    def changed(self) -> bool:
        """The files say other than the state was built with."""
        return None not in {self.files, self.state} and self.files != self.state


def judges_of(place: Place) -> Judges:
    """Never fails: what cannot be read is not known."""
    from sda_pipeline.astro.catalogue import configuration_hash
    from sda_pipeline.state.store import CorrelatorStore

    topology = place.topology
    try:
        catalogue, sensors = topology.catalogue.read_bytes(), topology.sensors.read_bytes()
        files: int | None = configuration_hash(catalogue, sensors, topology.physics)
    except OSError:
        files = None
    state: int | None = None
    if (place.state / CORRELATOR).exists():
        try:
            store = CorrelatorStore(place.state / CORRELATOR, readonly=True)
        except SdaError:
            return Judges(files, None, place.running())
        state = store.meta.catalogue or None
        store.close()
    return Judges(files, state, place.running())
