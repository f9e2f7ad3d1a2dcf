"""From ``topology.yaml`` to a Topology: every key, its default and its bounds.

Not the YAML itself (topology_yaml.py), nor operators and edges (topology_graph.py). Every fault is
found in one pass and reported with line and column. Files named in it need not exist yet:
``sda-sim catalogue`` reads the same file to make them.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from sda_pipeline import limits
from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.limits import MIB
from sda_pipeline.settings import EventTime, Physics, Prior
from sda_pipeline.topology import S3Settings, Supervision, Topology, catalogue_format
from sda_pipeline.topology_broker import broker_of, kafka_of
from sda_pipeline.topology_graph import parse_edges, parse_operators
from sda_pipeline.topology_yaml import Reader, Section

PIPELINE = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"  # becomes part of object names in S3
BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
PREFIX = r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*"
ENDPOINT = r"https?://[A-Za-z0-9_.-]+(:\d{1,5})?/?"  # no user, no query: secrets do not belong here
REGION = r"[A-Za-z0-9-]{1,64}"
DAY_S = 86_400.0
YEAR_S = 366 * DAY_S


def parse_topology(data: bytes, path: Path) -> Topology:
    """The topology in the bytes of ``path``. InvalidConfiguration lists every fault."""
    action = f"load the topology {path}"
    try:
        reader = Reader(data, path.name)
    except InvalidConfiguration as error:
        raise InvalidConfiguration(action, error.faults, error.hint) from error
    base = path.resolve().parent
    root = reader.root
    state = _path(root, "state", base)
    subscriber_section = root.section("subscriber")
    subscriber = _path(subscriber_section, "path", base)
    if subscriber == state:
        subscriber_section.fault("path", "must not be the state directory: it must outlive it")
    operators = parse_operators(reader, root)
    physics, event_time = _physics(root.section("physics")), _event_time(root.section("event_time"))
    if physics.clock_ahead_max_s >= event_time.allowed_lateness_s:
        root.fault("physics", "clock_ahead_max_s must be below event_time.allowed_lateness_s")
    checkpoint, bounds = root.section("checkpoint"), root.section("limits")
    topology = Topology(
        pipeline=root.text("pipeline", pattern=PIPELINE),
        state=state,
        broker=broker_of(root, base),
        kafka=kafka_of(root, base),
        broker_partitions=root.whole("broker_partitions", 1, low=1, high=64),
        catalogue=_catalogue(root, base),
        sensors=_path(root, "sensors", base),
        subscriber=subscriber,
        physics=physics,
        event_time=event_time,
        snapshot_every_s=checkpoint.number("every_s", limits.SNAPSHOT_EVERY_S, low=0.1, high=DAY_S),
        s3=_s3(checkpoint),
        disk_reserve_bytes=bounds.size("disk_reserve", limits.DISK_RESERVE_BYTES),
        log_retention_s=bounds.number(
            "log_retention_s", limits.LOG_RETENTION_S, low=0, high=YEAR_S
        ),
        log_bytes_max=bounds.size("log_bytes_max", limits.LOG_BYTES_MAX, low=limits.SEGMENT_BYTES),
        state_bytes_max=bounds.size("state_bytes_max", limits.STATE_BYTES_MAX, low=MIB),
        supervision=_supervision(bounds),
        operators=tuple(placed.spec for placed in operators),
        edges=parse_edges(root.section("edges"), operators),
    )
    for section in (subscriber_section, checkpoint, bounds, root):
        section.close()
    reader.finish(action)
    return topology


def _path(section: Section, key: str, base: Path) -> Path:
    """An absolute path; relative ones are relative to the topology file."""
    return (base / section.text(key)).resolve()


def _catalogue(root: Section, base: Path) -> Path:
    path = _path(root, "catalogue", base)
    try:
        if root.has("catalogue"):
            catalogue_format(path)
    except InvalidConfiguration as error:
        root.fault("catalogue", f"{error.why}; {error.hint}")
    return path


def _physics(section: Section) -> Physics:
    default = Physics()
    red = section.number("red_pc", default.red_pc, low=1e-300, high=1)
    yellow = section.number("yellow_pc", default.yellow_pc, low=1e-300, high=1)
    if yellow >= red:
        section.fault("yellow_pc", f"{yellow:g} must be below red_pc, {red:g}")
    screening = section.number("screening_km", default.screening_km, low=0.1, high=50)
    watch = None
    if section.text("watch_km", "off") not in ("off", "false"):
        watch = section.number("watch_km", screening, low=0, high=screening)
    physics = Physics(
        hbr_m=section.number("hbr_m", default.hbr_m, low=0.1, high=1000),
        red_pc=red,
        yellow_pc=yellow,
        watch_km=watch,
        screening_km=screening,
        margin_km=section.number("margin_km", default.margin_km, low=0, high=50),
        co_orbital_m_s=section.number("co_orbital_m_s", default.co_orbital_m_s, low=1, high=1000),
        dut1_s=section.number("dut1_s", default.dut1_s, low=-0.9, high=0.9),
        leo=_prior(section.section("leo"), default.leo),
        deep=_prior(section.section("deep"), default.deep),
        leo_min_rev_per_day=section.number(
            "leo_min_rev_per_day", default.leo_min_rev_per_day, low=0, high=20
        ),
        clock_ahead_max_s=section.number(
            "clock_ahead_max_s", default.clock_ahead_max_s, low=0, high=3600
        ),
    )
    section.close()
    return physics


def _prior(section: Section, default: Prior) -> Prior:
    pos = section.numbers("pos_m", default.pos_m)
    vel = section.numbers("vel_m_s", default.vel_m_s)
    section.close()
    return Prior((pos[0], pos[1], pos[2]), (vel[0], vel[1], vel[2]))


def _event_time(section: Section) -> EventTime:
    default = EventTime()
    idle: float | None = None
    if section.text("idle_after", "on") not in ("off", "false"):
        idle = section.number("idle_after", default.idle_after_s or 0.0, low=0.05, high=DAY_S)
    lateness = section.section("max_lateness_s")
    event_time = EventTime(
        idle_after_s=idle,
        allowed_lateness_s=section.number(
            "allowed_lateness_s", default.allowed_lateness_s, low=0, high=DAY_S
        ),
        max_lateness_s={
            kind: lateness.number(kind, value, low=0, high=DAY_S)
            for kind, value in default.max_lateness_s.items()
        },
    )
    lateness.close()
    section.close()
    return event_time


def _s3(checkpoint: Section) -> S3Settings | None:
    """Where snapshots are copied to; None without the section: they stay on this disk."""
    if not checkpoint.has("s3"):
        return None
    section, endpoint = checkpoint.section("s3"), None
    if section.has("endpoint"):
        endpoint = section.text("endpoint", pattern=ENDPOINT)
    settings = S3Settings(
        bucket=section.text("bucket", pattern=BUCKET),
        prefix=section.text("prefix", S3Settings.prefix, pattern=PREFIX),
        endpoint=endpoint,
        region=section.text("region", S3Settings.region, pattern=REGION),
        keep=section.whole("keep", S3Settings.keep, low=1, high=1000),
        recovery_wait_s=section.number(
            "recovery_wait_s", S3Settings.recovery_wait_s, low=0, high=limits.REMOTE_RECOVERY_WAIT_S
        ),
    )
    section.close()
    return settings


def _supervision(section: Section) -> Supervision:
    values = {
        field.name: section.number(field.name, float(field.default), low=0.01, high=DAY_S)
        for field in fields(Supervision)
        if isinstance(field.default, float)
    }
    supervision = Supervision(**values)
    if not supervision.heartbeat_alert_s < supervision.heartbeat_kill_s:
        section.fault("heartbeat_alert_s", "must be below heartbeat_kill_s")
    if not supervision.heartbeat_kill_s <= supervision.recovery_kill_s:
        section.fault("heartbeat_kill_s", "must not be over recovery_kill_s")
    return supervision
