"""What runs and how it is joined: the topology as plain values, its resolved JSON, its input files.

Not the reading of ``topology.yaml`` (topology_parse.py) and not the running (supervisor/).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sda_pipeline import limits
from sda_pipeline.broker.kafka_settings import KafkaSettings
from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.settings import EventTime, Physics

if TYPE_CHECKING:
    from sda_pipeline.astro.catalogue import Catalogue
    from sda_pipeline.sensors import SensorRegistry

SOURCE_KINDS = {"radar-source": "radar", "optical-source": "optical", "isl-source": "isl"}
SUPERVISOR = "supervisor"  # the name of the supervisor's own log; no operator may have it

# Sinks first. A source is always last: it reads where everything downstream of it stands.
_START_ORDER = (
    "subscriber", "alert-sink", "dlq-sink", "correlator", "replicator", "prioritize", "normalize",
    *SOURCE_KINDS,
)  # fmt: skip
OPERATOR_KINDS = frozenset(_START_ORDER)

# Which kinds an operator of a kind reads from; None stands for every source of the topology.
INPUT_KINDS: dict[str, tuple[str, ...] | None] = {
    **dict.fromkeys(SOURCE_KINDS, ()),
    "normalize": None,
    "prioritize": ("normalize",),
    "correlator": ("prioritize",),
    "alert-sink": ("correlator",),
    "subscriber": ("alert-sink",),
    "dlq-sink": None,
    "replicator": (),
}

# What an edge does when it is full. Blocking stops the operator behind it, and so the source.
POLICIES = ("block",)

_CATALOGUE_FORMATS = {
    ".tle": "tle", ".txt": "tle", ".3le": "tle", ".csv": "csv", ".json": "json", ".xml": "xml",
}  # fmt: skip


@dataclass(frozen=True)
class OperatorSpec:
    """One operator process and its restart policy (SPEC 11)."""

    name: str
    kind: str
    topic: str | None = None  # sources only
    inputs: tuple[str, ...] = ()
    backoff_s: float = limits.BACKOFF_FIRST_S
    backoff_max_s: float = limits.BACKOFF_MAX_S
    budget_deaths: int = limits.BUDGET_DEATHS  # so many deaths within the window stop the tree
    budget_window_s: float = limits.BUDGET_WINDOW_S


@dataclass(frozen=True)
class EdgeSpec:
    """One ring. Its name is ``source->target``."""

    name: str
    source: str
    target: str
    capacity_bytes: int
    policy: str = "block"


@dataclass(frozen=True)
class Supervision:
    """How patient the supervisor is, in seconds."""

    heartbeat_alert_s: float = limits.HEARTBEAT_ALERT_S
    heartbeat_kill_s: float = limits.HEARTBEAT_KILL_S
    recovery_kill_s: float = limits.RECOVERY_KILL_S
    ready_within_s: float = limits.READY_WITHIN_S
    drain_within_s: float = limits.DRAIN_WITHIN_S


@dataclass(frozen=True)
class S3Settings:
    """Where the snapshots are copied to. Credentials come from boto3's usual chain, never here."""

    bucket: str
    prefix: str = "sda"
    endpoint: str | None = None  # of an S3-compatible store; None: the region's own of AWS
    region: str = "us-east-1"
    keep: int = limits.REMOTE_KEEP
    recovery_wait_s: float = limits.REMOTE_RECOVERY_WAIT_S


@dataclass(frozen=True, kw_only=True)
class Topology:
    """A whole pipeline. All paths are absolute; ``broker`` is ``embedded:/absolute/directory`` or
    ``kafka://host:port,...``.
    """

    pipeline: str
    state: Path
    broker: str
    broker_partitions: int = 1
    kafka: KafkaSettings = field(default=KafkaSettings())
    catalogue: Path
    sensors: Path
    subscriber: Path  # directory of subscriber.sqlite: another failure domain than ``state``
    physics: Physics = field(default=Physics())
    event_time: EventTime = field(default_factory=EventTime)
    snapshot_every_s: float = limits.SNAPSHOT_EVERY_S
    s3: S3Settings | None = None
    disk_reserve_bytes: int = limits.DISK_RESERVE_BYTES
    log_retention_s: float = limits.LOG_RETENTION_S
    log_bytes_max: int = limits.LOG_BYTES_MAX
    state_bytes_max: int = limits.STATE_BYTES_MAX
    supervision: Supervision = field(default=Supervision())
    operators: tuple[OperatorSpec, ...]
    edges: tuple[EdgeSpec, ...]

    @cached_property
    def _by_name(self) -> dict[str, OperatorSpec]:
        return {spec.name: spec for spec in self.operators}

    @property
    def group(self) -> str:
        """Under which the sources commit their offsets to the broker."""
        return self.kafka.group or self.pipeline

    @property
    def names(self) -> tuple[str, ...]:
        """Every operator, in the order of the file (the order of words on the board)."""
        return tuple(spec.name for spec in self.operators)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources; their order is the source index in every frame header."""
        return tuple(spec.name for spec in self.operators if spec.kind in SOURCE_KINDS)

    def operator(self, name: str) -> OperatorSpec:
        """One operator; KeyError when there is none of that name."""
        return self._by_name[name]

    def kind_of(self, name: str) -> str:
        """The kind of an operator; KeyError when there is none of that name."""
        return self._by_name[name].kind

    def start_order(self) -> tuple[str, ...]:
        """Every operator, sinks first, sources last."""
        rank = {kind: i for i, kind in enumerate(_START_ORDER[: -len(SOURCE_KINDS)])}
        ordered = sorted(self.operators, key=lambda spec: rank.get(spec.kind, len(rank)))
        return tuple(spec.name for spec in ordered)


@dataclass(frozen=True)
class Inputs:
    """The files an observation is judged by, read once per process, and what identifies them."""

    catalogue: Catalogue
    sensors: SensorRegistry
    hash: int  # Header.catalogue


def load_topology(path: Path) -> Topology:
    """Read ``topology.yaml``. InvalidConfiguration lists every fault with line and column."""
    from sda_pipeline.topology_parse import parse_topology

    return parse_topology(_read(path, "topology"), path)


def to_resolved_json(topology: Topology) -> bytes:
    """What ``start`` writes to ``<state>/topology.json``: absolute paths, no secrets."""
    data = msgspec.json.encode(topology, enc_hook=str)
    return msgspec.json.format(data, indent=1) + b"\n"


def from_resolved_json(data: bytes) -> Topology:
    """Read it back. InvalidConfiguration when it is not what ``start`` writes."""
    try:
        return msgspec.json.decode(data, type=Topology, dec_hook=_decode_path)
    except msgspec.MsgspecError as error:
        raise InvalidConfiguration(
            "read the resolved topology", [str(error)], "start the pipeline again to rewrite it"
        ) from error


def load_inputs(topology: Topology) -> Inputs:
    """Read catalogue and sensors once. InvalidConfiguration with the faults of both files."""
    from sda_pipeline.astro.catalogue import configuration_hash, parse_catalogue
    from sda_pipeline.sensors import parse_sensors
    from sda_pipeline.topology_yaml import load_mapping

    faults: list[str] = []
    files: dict[str, Any] = {}
    try:
        catalogue = _read(topology.catalogue, "catalogue")
        text = catalogue.decode("utf-8", errors="replace")
        files["catalogue"] = parse_catalogue(text, catalogue_format(topology.catalogue))
    except InvalidConfiguration as error:
        faults += [f"{topology.catalogue}: {fault}" for fault in error.faults]
    try:
        sensors = _read(topology.sensors, "sensors")
        files["sensors"] = parse_sensors(load_mapping(sensors, topology.sensors.name))
    except InvalidConfiguration as error:
        faults += [f"{topology.sensors}: {fault}" for fault in error.faults]
    if faults:
        raise InvalidConfiguration("load catalogue and sensors", faults, "correct the files")
    return Inputs(
        files["catalogue"],
        files["sensors"],
        configuration_hash(catalogue, sensors, topology.physics),
    )


def catalogue_format(path: Path) -> str:
    """tle, csv, json or xml, by the file's suffix. InvalidConfiguration on another one."""
    found = _CATALOGUE_FORMATS.get(path.suffix.lower())
    if found is None:
        known = ", ".join(sorted(_CATALOGUE_FORMATS))
        raise InvalidConfiguration(
            f"read the catalogue {path}",
            [f"the suffix {path.suffix!r} names no catalogue format"],
            f"use one of {known}",
        )
    return found


def sources_moved(before: Topology, after: Topology) -> str:
    """Why ``after`` cannot go on with the state of ``before``; empty when it can.

    Logs, positions and frames name a source by its index, so sources may only be added at the end.
    """
    pairs = itertools.zip_longest(before.sources, after.sources)
    for index, (old, new) in enumerate(pairs):
        if old is not None and old != new:
            return f"source {index} was {old} in this state directory and is now {new or 'gone'}"
    return ""


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidConfiguration(
            f"read the {what} file {path}",
            [f"{error.strerror or error}"],
            "name an existing, readable file",
        ) from error


def _decode_path(kind: type, value: object) -> object:
    if issubclass(kind, Path) and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(f"{kind} is not part of a topology")
