"""End to end as fast as it goes: a pre-filled broker, all durability on, to the last alert."""

from __future__ import annotations

from typing import Any

from sda_pipeline.clock import Clock
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.log.source_log import read_log
from sda_pipeline.records.frames import parse_payload
from sda_pipeline.topology import Topology, load_topology
from tests.bench.bench_figures import OBSERVATIONS_PER_S, Figure, rate
from tests.bench.bench_inputs import EPOCH, Say, fill, make_catalogue
from tests.bench.bench_meter import Meter
from tests.bench.bench_tree import Status, delivered, tree_of
from tests.process import verdict
from tests.process.site import Site

TELL_EVERY_NS = SECOND_NS


def measure_throughput(
    site: Site, objects: int, observations: int, say: Say
) -> tuple[list[Figure], dict[str, Any]]:
    """Fill, run to the end, read the logs. Figures and details."""
    minutes = observations / 10_000.0 / 60.0 + 1.0
    say(f"making a catalogue of {objects:,} objects")
    make_catalogue(site, objects, minutes, EPOCH)
    filled = fill(site, observations, say)
    topology = load_topology(site.topology)
    meter = Meter()
    with tree_of(site) as tree:
        tree.start("--end-of-input")
        watch = _Watch(meter, filled, tree.clock, say)
        tree.wait(watch.look, "the end of the input")
        ended = tree.clock.wall_ns()
        tree.finish()
    sources = {name: _source(topology, name) for name in topology.sources}
    began = min(row["first_ingest_ns"] for row in sources.values())
    read = sum(row["observations"] for row in sources.values())
    effects = len(verdict.ledger(site))
    faults = verdict.ledger_faults(verdict.ledger(site)) + verdict.audit_faults(site)
    if read != filled:
        faults.append(f"{filled} observations were produced, {read} read")
    say(f"read {read:,} observations in {(ended - began) / SECOND_NS:.2f} s, {effects} effects")
    figure = Figure(
        "throughput, end to end", rate(read, began, ended), "obs/s", at_least=OBSERVATIONS_PER_S,
        note=f"{read:,} observations, {objects:,} objects, all durability on",
    )  # fmt: skip
    cpu = {name: 1e6 * meter.spent_s(name) / read for name in topology.names}
    operators = {
        name: {"cpu_us_per_observation": cpu[name], **_memory(meter, name)}
        for name in topology.names
    }
    total = Figure("CPU per observation, all operators", sum(cpu.values()), "us")
    details = {
        "seconds": (ended - began) / SECOND_NS,
        "observations_per_s": figure.value,
        "observations": read,
        "effects": effects,
        "faults": faults,
        "sources": sources,
        "operators": operators,
    }
    return [figure, total], details


def _memory(meter: Meter, name: str) -> dict[str, float]:
    rss, private = meter.memory_mib(name)
    return {"rss_mib": rss, "private_mib": private}


class _Watch:
    """Looks at every status: meters the operators, tells the progress, knows the end."""

    def __init__(self, meter: Meter, filled: int, clock: Clock, say: Say) -> None:
        self._meter, self._filled, self._clock, self._say = meter, filled, clock, say
        self._told = clock.monotonic_ns()

    def look(self, status: Status) -> bool:
        """Whether everything is delivered."""
        self._meter.sample(status)
        now = self._clock.monotonic_ns()
        if now - self._told >= TELL_EVERY_NS:
            self._told = now
            self._tell(status)
        return delivered(status)

    def _tell(self, status: Status) -> None:
        lags = [source["lag"] for source in status["sources"]]
        if None in lags:
            up = sum(o["state"] == "running" for o in status["operators"])
            self._say(f"{up} of {len(status['operators'])} operators are up")
            return
        read = self._filled - sum(lags)
        behind = sum(s["log_end"] - s["applied"] for s in status["sources"])
        self._say(f"{read / self._filled:.0%} read, {behind} frames not yet applied")


def _source(topology: Topology, name: str) -> dict[str, Any]:
    """What one source's log says: how much it read, from its first frame to its END."""
    log = read_log(topology.state / "log" / name)
    first, last = log.read(log.first), log.read(log.end)
    read = parse_payload(last.header, last.payload).counts.read
    return {
        "observations": read,
        "first_ingest_ns": first.header.ingest,
        "seconds": (last.header.ingest - first.header.ingest) / SECOND_NS,
        "observations_per_s": rate(read, first.header.ingest, last.header.ingest),
    }
