"""``python -m tests.bench``: run the phases, print the table, write build/bench.json."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import orjson

from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import SdaError
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.times import format_time
from tests.bench import bench_report
from tests.bench.bench_figures import Figure
from tests.bench.bench_inputs import EPOCH, make_catalogue, make_site
from tests.bench.bench_live import LiveOptions, measure_live
from tests.bench.bench_log_length import measure_log_length
from tests.bench.bench_loop import compare_finals, measure_loop
from tests.bench.bench_remote import RemoteOptions, measure_remote
from tests.bench.bench_reprocess import measure_reprocess
from tests.bench.bench_restore import measure_restore
from tests.bench.bench_snapshot import measure_snapshot
from tests.bench.bench_throughput import measure_throughput
from tests.bench.bench_tree import BenchError
from tests.process.site import ROOT
from tests.servers.cache import NotFetched

BUILD = ROOT / "build"
PHASES = (
    "throughput", "loop", "live", "snapshot", "log_length", "remote", "restore", "reprocess",
)  # fmt: skip
# The input on which pipeline and loop must agree.
SMALL_OBJECTS, SMALL_HZ, SMALL_MINUTES, SMALL_PER_MINUTE = 60, 60.0, 2.0, 12.0


@dataclass(frozen=True)
class Options:
    """How much of everything."""

    observations: int = 600_000
    objects: int = 26_000
    sample: int = 5_000  # of the per-event loop
    small: int = 6_000
    per_minute: float = 120.0  # four times SPEC 12's: enough alerts to tell a 99th percentile
    warm_up_s: float = 30.0  # the slowest optical observations arrive so late
    quiet_s: float = 60.0
    rounds: int = 4
    tree_kills: int = 4


QUICK = Options(
    observations=20_000, objects=2_000, sample=500, small=2_400, per_minute=30.0, warm_up_s=3.0,
    quiet_s=12.0, rounds=1, tree_kills=1,
)  # fmt: skip


class Bench:
    """Runs the phases in a directory and collects what they found."""

    def __init__(self, options: Options, root: Path) -> None:
        self.options, self.root, self.clock = options, root, SystemClock()
        self.figures: list[Figure] = []
        self.details: dict[str, Any] = {}
        self.operators: dict[str, dict[str, Any]] = {}
        self._began = self.clock.monotonic_ns()

    def say(self, text: str) -> None:
        """Progress, for people."""
        seconds = (self.clock.monotonic_ns() - self._began) / SECOND_NS
        print(f"[{seconds:7.1f} s] {text}", file=sys.stderr, flush=True)

    def run(self, phase: str) -> None:
        """One phase, in a directory of its own."""
        self.say(f"--- {phase}")
        getattr(self, phase)()

    def throughput(self) -> None:
        """Pre-filled broker, as fast as it goes."""
        options = self.options
        site = make_site(self.root / "throughput")
        self.keep(
            "throughput",
            *measure_throughput(site, options.objects, options.observations, self.say),
        )

    def loop(self) -> None:
        """The plain loop over the same input, and whether it finds the same alerts."""
        options = self.options
        site = make_site(self.root / "loop")
        make_catalogue(site, options.objects, options.observations / 600_000.0 + 1.0, EPOCH)
        found = self.details.get("throughput", {}).get("observations_per_s")
        figures, details = measure_loop(site, options.observations, options.sample, found, self.say)
        small = make_site(self.root / "small")
        make_catalogue(small, SMALL_OBJECTS, SMALL_MINUTES, EPOCH, SMALL_PER_MINUTE)
        same = compare_finals(small, options.small, SMALL_HZ, self.say)
        note = f"of {same['alerts']}, over a small input"
        agree = Figure("final alerts of loop and pipeline that agree", same["agree"], "", note=note)
        self.keep("loop", [*figures, agree], details | same)

    def live(self) -> None:
        """Live traffic, then kills."""
        options = self.options
        live = LiveOptions(
            options.objects, options.per_minute, options.warm_up_s, options.quiet_s,
            options.rounds, options.tree_kills,
        )  # fmt: skip
        self.keep("live", *measure_live(make_site(self.root / "live"), live, self.say))

    def snapshot(self) -> None:
        """Commit times beside a snapshot of 100 MB."""
        self.keep("snapshot", *measure_snapshot(self.root / "snapshot", self.clock, self.say))

    def log_length(self) -> None:
        """How long a start takes behind a short log, and behind a long one."""
        self.keep("log_length", *measure_log_length(self.root / "log", self.clock, self.say))

    def remote(self) -> None:
        """Commit times without a remote store, with a healthy and with a slow one."""
        options = self.options
        remote = RemoteOptions(
            options.objects,
            options.per_minute,
            min(20.0, options.warm_up_s),
            min(40.0, options.quiet_s),
        )
        root = self.root / "remote"
        self.keep("remote", *measure_remote(root, remote, self.clock, self.say))

    def restore(self) -> None:
        """100 MB of correlator state: load to first output, from each rung."""
        self.keep("restore", *measure_restore(self.root / "restore", self.clock, self.say))

    def reprocess(self) -> None:
        """Ten thousand entries that are already applied."""
        root = self.root / "reprocess"
        self.keep("reprocess", *measure_reprocess(root, self.clock, self.say))

    def keep(self, phase: str, figures: list[Figure], details: dict[str, Any]) -> None:
        """Add what a phase found."""
        self.figures += figures
        for name, row in details.pop("operators", {}).items():
            self.operators.setdefault(name, {}).update(row)
        self.details[phase] = details

    @property
    def faults(self) -> list[str]:
        """What was wrong with the results themselves: a fast wrong answer is no figure."""
        return [
            f"{phase}: {fault}"
            for phase, details in self.details.items()
            for fault in details.get("faults", ())
        ]


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--observations", type=int, help="of the throughput run (600,000)")
    parser.add_argument(
        "--quick", action="store_true", help="a small smoke run; figures mean little"
    )
    parser.add_argument("--only", action="append", choices=PHASES, help="leave the others out")
    parser.add_argument("--keep", action="store_true", help="keep the directory it ran in")
    return parser.parse_args(arguments)


def machine() -> dict[str, Any]:
    """Where the figures are from."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return {
        "at": format_time(SystemClock().wall_ns()),
        "cpus": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def show(bench: Bench, document: dict[str, Any], path: Path) -> None:
    """The tables, on stdout."""
    at = document["machine"]
    print(f"\n{at['cpus']} x {at['cpu']}, load before {at['load_before']:.2f}\n")
    print(bench_report.figures_table(bench.figures))
    if "throughput" in bench.details:
        print("\n" + bench_report.sources_table(bench.details["throughput"]["sources"]))
    if bench.operators:
        print("\n" + bench_report.operators_table(bench.operators))
    for fault in bench.faults:
        print(f"FAULT {fault}")
    print(f"\nwrote {path}", flush=True)


def stop(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends like Ctrl-C: nothing may be left behind."""
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    """Measure, print, write. 1 when results were wrong or a phase failed."""
    asked = parsed(arguments)
    options = QUICK if asked.quick else Options()
    if asked.observations is not None:
        options = replace(options, observations=asked.observations)
    signal.signal(signal.SIGTERM, stop)
    BUILD.mkdir(exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="bench-", dir=BUILD))
    where = machine()
    bench = Bench(options, root)
    try:
        for phase in PHASES:
            if asked.only is None or phase in asked.only:
                try:
                    bench.run(phase)
                except NotFetched as error:  # on a laptop the phases without servers still count
                    bench.say(str(error))
    except (BenchError, SdaError, AssertionError) as error:
        print(f"cannot finish the benchmark: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cannot finish the benchmark: interrupted", file=sys.stderr)
        return 1
    finally:
        if not asked.keep:
            shutil.rmtree(root, ignore_errors=True)
    document = bench_report.document(
        where, asdict(options), bench.figures, {"operators": bench.operators, **bench.details}
    )
    path = BUILD / "bench.json"
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    show(bench, document, path)
    return 1 if bench.faults else 0


sys.exit(main(sys.argv[1:]))
