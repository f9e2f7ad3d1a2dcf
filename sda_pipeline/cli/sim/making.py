"""``sda-sim catalogue`` as a function: writes catalogue, truth and, if absent, sensors."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sda_pipeline.cli.sim.default_sensors import default_sensors_text
from sda_pipeline.cli.sim.outfile import write_atomically
from sda_pipeline.cli.sim.population import synthesize
from sda_pipeline.cli.sim.truth import Truth, read_truth, truth_path, write_truth
from sda_pipeline.clock import Clock
from sda_pipeline.errors import InvalidConfiguration, UsageError
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.times import format_time
from sda_pipeline.sensors import SensorRegistry, parse_sensors
from sda_pipeline.topology import Topology, catalogue_format, load_topology
from sda_pipeline.topology_yaml import load_mapping

LEFT_NS = 60 * SECOND_NS  # --keep-current: so much of the encounters must be left


class Report(NamedTuple):
    """What a command did: for people, and for programs."""

    text: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class CatalogueOptions:
    """``sda-sim catalogue``."""

    epoch: int | None = None
    seed: int = 1
    objects: int = 2000
    minutes: float = 15.0
    per_minute: float = 30.0
    on_catalogue: bool = False
    keep_current: bool = False


def make_catalogue(path: Path, options: CatalogueOptions, clock: Clock) -> Report:
    """Write catalogue and truth, and the sensors if there are none."""
    topology = load_topology(path)
    if catalogue_format(topology.catalogue) != "tle":
        raise UsageError(
            f"write the catalogue {topology.catalogue}", "the simulator writes element lines",
            "name a .tle file in the topology",
        )  # fmt: skip
    now = clock.wall_ns()
    if options.keep_current and (left := _left_ns(topology, now)) > LEFT_NS:
        minutes = left / SECOND_NS / 60.0
        text = f"kept {topology.catalogue}: it has {minutes:.1f} more minutes of encounters"
        return Report(text, {"written": False, "catalogue": str(topology.catalogue)})
    sensors, new_sensors = _sensors(topology)
    made = synthesize(
        options.seed, now // SECOND_NS * SECOND_NS if options.epoch is None else options.epoch,
        options.objects, sensors=sensors, minutes=options.minutes, per_minute=options.per_minute,
        physics=topology.physics, on_catalogue=options.on_catalogue,
    )  # fmt: skip
    if new_sensors:
        write_atomically(topology.sensors, default_sensors_text().encode())
    # The truth first: a catalogue is never without it, and one that misses its catalogue is
    # refused.
    write_truth(truth_path(topology.catalogue), made.truth)
    write_atomically(topology.catalogue, made.elements.encode())
    return _catalogue_report(topology, made.truth, new_sensors=new_sensors)


def _left_ns(topology: Topology, now_ns: int) -> int:
    """How much of the present catalogue's encounters is left; 0 when there is no usable one."""
    try:
        catalogue = topology.catalogue.read_bytes()
        return read_truth(truth_path(topology.catalogue), catalogue).ends_ns - now_ns
    except (OSError, InvalidConfiguration):
        return 0


def _sensors(topology: Topology) -> tuple[SensorRegistry, bool]:
    """The topology's sensors, and whether their file is still to be written."""
    try:
        data, new = topology.sensors.read_bytes(), False
    except FileNotFoundError:
        data, new = default_sensors_text().encode(), True
    except OSError as error:
        why = error.strerror or str(error)
        raise InvalidConfiguration(f"read {topology.sensors}", [why], "make it readable") from error
    return parse_sensors(load_mapping(data, topology.sensors.name)), new


def _catalogue_report(topology: Topology, truth: Truth, *, new_sensors: bool) -> Report:
    ours = [e for e in truth.encounters if e.origin == "engineered"]
    levels = Counter(e.expected_level for e in ours)
    mix = ", ".join(f"{levels[k]} {k}" for k in ("RED", "YELLOW", "WATCH", "none") if levels[k])
    text = (
        f"wrote {topology.catalogue}: {truth.objects:,} objects, {len(ours)} engineered encounters "
        f"until {format_time(truth.ends_ns)[:19]}Z (expected: {mix or 'no level'}), "
        f"{len(truth.encounters) - len(ours)} natural ones; truth beside it; "
        f"{'wrote' if new_sensors else 'kept'} {topology.sensors}"
    )
    facts = {
        "written": True, "catalogue": str(topology.catalogue), "epoch": truth.epoch,
        "ends": format_time(truth.ends_ns), "objects": truth.objects, "engineered": len(ours),
        "natural": len(truth.encounters) - len(ours), "expected": dict(levels),
        "truth": str(truth_path(topology.catalogue)), "sensors": str(topology.sensors),
        "sensors_written": new_sensors,
    }  # fmt: skip
    return Report(text, facts)
