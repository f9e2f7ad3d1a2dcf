"""The same maths as a plain loop over single events: how fast it is, and that it finds the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sda_pipeline.clock import SystemClock
from sda_pipeline.topology import load_inputs, load_topology
from tests.bench.bench_figures import Figure, rate
from tests.bench.bench_inputs import Event, Say, events, fill
from tests.bench.bench_tree import tree_of
from tests.process.site import Site
from tests.reference.agreement import disagreements
from tests.reference.per_event import KINDS, PerEvent

# The loop also reduces on its own: rounding there (micrometres) moves Pc more than 1e-9 of it.
PC_RELATIVE = 1e-7
WARM_UP = 0.2  # of the sample: the schedule's first panes, which a long input hardly feels


@dataclass(frozen=True)
class Told:
    """A record of the loop, as ``disagreements`` takes it."""

    record: dict[str, Any]


def measure_loop(
    site: Site, observations: int, sample: int, throughput: float | None, say: Say
) -> tuple[list[Figure], dict[str, Any]]:
    """Time the loop over the first ``sample`` events of the throughput's own input."""
    say(f"a plain loop over the first {sample:,} observations, one at a time")
    clock, loop = SystemClock(), _loop(site)
    taken = events(site, observations, sample)
    warm = round(WARM_UP * len(taken))
    _feed(loop, taken[:warm])
    began = clock.monotonic_ns()
    _feed(loop, taken[warm:])
    alone = rate(len(taken) - warm, began, clock.monotonic_ns())
    ratio = throughput / alone if throughput and alone else None
    figures = [
        Figure("plain per-event loop, one process", alone, "obs/s",
               note=f"{len(taken) - warm:,} observations of the same input, nothing durable"),
        Figure("throughput over the plain loop's", ratio, "times"),
    ]  # fmt: skip
    return figures, {"observations": len(taken), "observations_per_s": alone, "ratio": ratio}


def compare_finals(site: Site, observations: int, hz: float, say: Say) -> dict[str, Any]:
    """Run a small input through both. How many final alerts agree, and every difference."""
    say(f"a small input of {observations:,} observations through the pipeline and through the loop")
    fill(site, observations, say, hz)
    with tree_of(site) as tree:
        tree.start("--end-of-input")
        tree.finish()
    done = site.run("sda-supervisor", "alerts", "--json", "--final", "--state", "state")
    records = [orjson.loads(line) for line in done.stdout.splitlines()]
    loop = _loop(site)
    _feed(loop, events(site, observations, observations, hz))
    loop.finish()
    found = {record["alert_id"]: record for record in records}
    faults = differences(found, loop.finals)
    differing = {fault.split(":", 1)[0] for fault in faults}
    return {"alerts": len(loop.finals), "agree": len(found.keys() - differing), "faults": faults}


def differences(
    found: Mapping[str, dict[str, Any]], expected: Mapping[str, dict[str, Any]]
) -> list[str]:
    """What the pipeline's finals say otherwise than the loop's, as ``alert: what``.

    Numbers agree to 1e-9 of their size, Pc to 1e-7.
    """
    faults = [f"{alert}: only the loop has it" for alert in sorted(expected.keys() - found.keys())]
    faults += [f"{alert}: the loop lacks it" for alert in sorted(found.keys() - expected.keys())]
    for alert in sorted(found.keys() & expected.keys()):
        ours, theirs = found[alert], expected[alert]
        near = abs(ours["pc"] - theirs["pc"]) <= PC_RELATIVE * theirs["pc"]
        told = Told(theirs | {"pc": ours["pc"]} if near else theirs)
        strayed = disagreements(ours, told)  # type: ignore[arg-type]
        faults += [f"{alert}: {what}" for what in strayed]
    return faults


def _loop(site: Site) -> PerEvent:
    topology = load_topology(site.topology)
    inputs = load_inputs(topology)
    return PerEvent(inputs.catalogue, inputs.sensors, topology.physics, topology.event_time)


def _feed(loop: PerEvent, taken: Iterable[Event]) -> None:
    for topic, value, timestamp_ms, partition, offset in taken:
        loop.take(KINDS[topic], value, timestamp_ms, partition, offset)
