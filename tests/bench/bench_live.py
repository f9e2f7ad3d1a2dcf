"""Live traffic at the nominal rate: alert latency, checkpoint pauses, load; then the kills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.log.source_log import read_log
from sda_pipeline.records.frames import parse_payload
from sda_pipeline.state.subscriber_store import FILE_NAME, read_actions
from sda_pipeline.topology import Topology, load_topology
from tests.bench.bench_figures import (
    CHECKPOINT_P99_MS,
    LATENCY_P99_MS,
    NOMINAL_CORE_PERCENT,
    OPERATOR_RESTART_P99_S,
    TREE_RESTART_P99_S,
    Figure,
    alert_latencies_ms,
    percentile,
    rate,
    shown,
    spread,
    worst_pauses_ms,
)
from tests.bench.bench_inputs import RATE, SEED, Say, make_catalogue
from tests.bench.bench_meter import Meter
from tests.bench.bench_restarts import Restarts, kill_operators, kill_trees
from tests.bench.bench_tree import Tree, all_running, command, tree_of
from tests.process import verdict
from tests.process.site import Site

LEAD_MINUTES = 1.5  # between making the catalogue and the quiet span: start-up and warm-up
KILL_MINUTES = 0.12  # of encounters for each kill
SUPERVISOR = "supervisor"


@dataclass(frozen=True)
class LiveOptions:
    """How long, and how many kills."""

    objects: int
    per_minute: float  # engineered encounters
    warm_up_s: float
    quiet_s: float
    rounds: int  # kills of each operator
    tree_kills: int


@dataclass(frozen=True)
class Quiet:
    """The undisturbed span, wall clock ns."""

    begin_ns: int
    end_ns: int
    read: int  # observations the sources read meanwhile

    @property
    def per_s(self) -> float | None:
        """Observations read per second."""
        return rate(self.read, self.begin_ns, self.end_ns)


@dataclass(frozen=True)
class Found:
    """Everything measured here. Loads are percent of a core, by operator."""

    quiet: Quiet
    restarts: Restarts
    latencies_ms: list[float]
    pauses: dict[str, Any]
    load: dict[str, float]
    supervisor_load: float
    cold_start_s: float


def measure_live(site: Site, options: LiveOptions, say: Say) -> tuple[list[Figure], dict[str, Any]]:
    """Run against the clock, measure, then kill. Figures and details."""
    topology = load_topology(site.topology)
    kills = options.rounds * len(topology.operators) + 2 * options.tree_kills
    minutes = LEAD_MINUTES + options.quiet_s / 60.0 + KILL_MINUTES * kills
    say(f"making a catalogue of {options.objects:,} objects with encounters from now on")
    make_catalogue(site, options.objects, minutes, None, options.per_minute)
    meter = Meter()
    with tree_of(site) as tree:
        began = tree.start()
        _, up = tree.wait(all_running, "every operator to be ready")
        say(f"the pipeline is up after {(up - began) / SECOND_NS:.1f} s; live traffic begins")
        with command(site, "sda-sim", "run", "--rate", str(RATE), "--seed", str(SEED)):
            quiet = _quiet(tree, topology, meter, options, say)
            restarts = kill_operators(tree, topology, options.rounds, say)
            kill_trees(tree, topology, options.tree_kills, restarts, say)
        say("draining")
        tree.stop()
    faults = verdict.ledger_faults(verdict.ledger(site)) + verdict.audit_faults(site)
    seconds = (quiet.end_ns - quiet.begin_ns) / SECOND_NS
    actions = read_actions(topology.subscriber / FILE_NAME)
    found = Found(
        quiet=quiet,
        restarts=restarts,
        latencies_ms=alert_latencies_ms(actions, quiet.begin_ns, quiet.end_ns),
        pauses=worst_pauses_ms(site.events("correlator"), quiet.begin_ns, quiet.end_ns),
        load={name: 100.0 * meter.spent_s(name) / seconds for name in topology.names},
        supervisor_load=100.0 * meter.spent_s(SUPERVISOR) / seconds,
        cold_start_s=(up - began) / SECOND_NS,
    )
    return _figures(found), _details(found) | {"faults": faults}


def _quiet(tree: Tree, topology: Topology, meter: Meter, options: LiveOptions, say: Say) -> Quiet:
    """Let it run in, then meter the operators over an undisturbed span."""
    _sit(tree, options.warm_up_s, "warming up", say)
    status, _ = tree.wait(all_running, "every operator to be ready")
    meter.sample(status)
    meter.read(SUPERVISOR, tree.pid)
    meter.restart()
    begin, read = tree.clock.wall_ns(), _read_by(topology)
    _sit(tree, options.quiet_s, f"measuring at {RATE:,.0f} obs/s", say)
    status, _ = tree.wait(all_running, "every operator to be ready")
    meter.sample(status)
    meter.read(SUPERVISOR, tree.pid)
    return Quiet(begin, tree.clock.wall_ns(), _read_by(topology) - read)


def _sit(tree: Tree, seconds: float, what: str, say: Say) -> None:
    """Let so much time pass: the one thing here that is not waited for but measured over."""
    until = tree.clock.monotonic_ns() + round(seconds * SECOND_NS)
    while (left := until - tree.clock.monotonic_ns()) > 0:
        say(f"{what}: {left / SECOND_NS:.0f} s left")
        tree.clock.sleep(min(5.0, left / SECOND_NS))


def _read_by(topology: Topology) -> int:
    """Observations all sources have read, from the ends of their logs."""
    read = 0
    for name in topology.sources:
        last = read_log(topology.state / "log" / name).last()
        if last is not None:
            read += parse_payload(last.header, last.payload).counts.read
    return read


def _figures(found: Found) -> list[Figure]:
    quiet, restarts = found.quiet, found.restarts
    seconds = (quiet.end_ns - quiet.begin_ns) / SECOND_NS
    samples = f"{len(found.latencies_ms)} raises and upgrades in {seconds:.0f} s"
    parts = (
        f"{found.pauses['count']} commits; the worst of {found.pauses['summaries']} parts of 10 s"
    )
    killed, trees = restarts.all_s, restarts.tree_s
    return [
        Figure("nominal load, all operators", sum(found.load.values()), "% of a core",
               at_most=NOMINAL_CORE_PERCENT, note=f"at {shown(quiet.per_s)} obs/s read"),
        Figure("alert latency p50", percentile(found.latencies_ms, 50.0), "ms", note=samples),
        Figure("alert latency p99", percentile(found.latencies_ms, 99.0), "ms",
               at_most=LATENCY_P99_MS),
        Figure("checkpoint pause p50", found.pauses["p50"], "ms", note=parts),
        Figure("checkpoint pause p99", found.pauses["p99"], "ms", at_most=CHECKPOINT_P99_MS),
        Figure("operator killed to next output p50", percentile(killed, 50.0), "s",
               note=f"{len(killed)} kills"),
        Figure("operator killed to next output p99", percentile(killed, 99.0), "s",
               at_most=OPERATOR_RESTART_P99_S),
        Figure("whole tree killed to next alert possible p50", percentile(trees, 50.0), "s",
               note=f"{len(trees)} kills"),
        Figure("whole tree killed to next alert possible p99", percentile(trees, 99.0), "s",
               at_most=TREE_RESTART_P99_S),
        Figure("whole tree killed to every operator ready p99",
               percentile(restarts.tree_ready_s, 99.0), "s"),
    ]  # fmt: skip


def _details(found: Found) -> dict[str, Any]:
    restarts = found.restarts
    operators = {
        name: {
            "nominal_core_percent": percent,
            "restart_p50_s": percentile(restarts.output_s[name], 50.0),
            "restart_p99_s": percentile(restarts.output_s[name], 99.0),
            "ready_p50_s": percentile(restarts.ready_s[name], 50.0),
            "kills": len(restarts.output_s[name]),
        }
        for name, percent in found.load.items()
    }
    return {
        "observations_per_s": found.quiet.per_s,
        "seconds": (found.quiet.end_ns - found.quiet.begin_ns) / SECOND_NS,
        "alert_latency_ms": spread(found.latencies_ms),
        "checkpoint_pause_ms": found.pauses,
        "supervisor_core_percent": found.supervisor_load,
        "cold_start_s": found.cold_start_s,
        "operator_restart_s": {
            "all": spread(restarts.all_s),
            "by_operator": restarts.output_s,
        },
        "operator_ready_s": restarts.ready_s,
        "tree_restart_s": spread(restarts.tree_s),
        "tree_all_ready_s": spread(restarts.tree_ready_s),
        "operators": operators,
    }
