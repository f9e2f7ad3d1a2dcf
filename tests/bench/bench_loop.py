"""The same maths as a plain loop over single events: how fast it is, and that it finds the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from sda_pipeline.clock import SystemClock
from sda_pipeline.topology import load_inputs, load_topology
from tests.bench.bench_figures import Figure, rate
from tests.bench.bench_inputs import Event, Say, events, fill
from tests.bench.bench_tree import tree_of
from tests.process.site import Site
from tests.reference import per_event

NUMBERS = ("pc", "miss_m", "rel_speed_m_s")
RELATIVE = 1e-9  # SPEC 5: against the slow reference


def measure_loop(
    site: Site, observations: int, sample: int, throughput: float | None, say: Say
) -> tuple[list[Figure], dict[str, Any]]:
    """Time the loop over the first ``sample`` events of the throughput's own input."""
    say(f"a plain loop over the first {sample:,} observations, one at a time")
    clock = SystemClock()
    taken = events(site, observations, sample)
    began = clock.monotonic_ns()
    _run(site, taken)
    alone = rate(len(taken), began, clock.monotonic_ns())
    ratio = throughput / alone if throughput and alone else None
    figures = [
        Figure("plain per-event loop, one process", alone, "obs/s",
               note=f"the first {len(taken):,} observations of the same input"),
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
    expected = _run(site, events(site, observations, observations, hz))
    found = {record["alert_id"]: record for record in records}
    return {"alerts": len(found), "differences": differences(found, expected)}


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """What the pipeline's finals say otherwise than the loop's, by alert."""
    faults = [f"{alert}: only the loop has it" for alert in sorted(expected.keys() - found.keys())]
    faults += [f"{alert}: the loop lacks it" for alert in sorted(found.keys() - expected.keys())]
    for alert in sorted(found.keys() & expected.keys()):
        ours, theirs = found[alert], expected[alert]
        if ours["level"] != theirs["level"]:
            faults.append(f"{alert}: level {ours['level']}, not {theirs['level']}")
        for name in NUMBERS:
            if abs(ours[name] - theirs[name]) > RELATIVE * abs(theirs[name]):
                faults.append(f"{alert}: {name} {ours[name]!r}, not {theirs[name]!r}")
    return faults


def _run(site: Site, taken: list[Event]) -> dict[str, Any]:
    """Final alert records of the loop by alert id."""
    topology = load_topology(site.topology)
    inputs = load_inputs(topology)
    return per_event.run(
        taken, inputs.catalogue, inputs.sensors, topology.physics, topology.event_time
    )
