"""Run schedules: ``python -m tests.simulation --seeds N [--jobs J]``; one of them again, exactly:
``--seed S [--trace]``; the negative controls: ``--controls``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator

import msgspec

from sda_pipeline.clock import SystemClock
from tests.simulation.broken_reject_rules import RULES
from tests.simulation.campaign import Summary, caught_after, told, world_of
from tests.simulation.seams import simulated

PART = 100  # schedules between two reports
PROGRESS_EVERY = 1_000
MINUTE_NS = 60_000_000_000


def main() -> int:
    options = _options()
    if options.seed is not None:
        return _one(options.seed, trace=options.trace)
    if options.controls:
        return _controls(options.seeds)
    if options.part:
        return _part(options.first, options.seeds)
    return _campaign(options.first, options.seeds, max(1, options.jobs))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many schedules")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="with --seed: its whole transcript")
    parser.add_argument("--controls", action="store_true", help="break each rule, until caught")
    parser.add_argument("--part", action="store_true", help=argparse.SUPPRESS)  # of a campaign
    return parser.parse_args()


def _one(seed: int, *, trace: bool) -> int:
    with simulated():
        world = world_of(seed, trace=True)
        faults = world.run()
    if trace:
        print("\n".join(world.trace or []))
    print(f"seed {seed}: {len(world.struck)} of {len(world.plan.faults)} faults struck")
    print("\n".join(faults) or "nothing is wrong")
    return int(bool(faults))


def _controls(seeds: int) -> int:
    missed = 0
    print(f"{'rule broken':60} {'seeds':>6}  noticed by")
    with simulated():
        for rule in RULES:
            caught = caught_after(rule, seeds)
            missed += caught is None
            after, faults = caught or ("never", [""])
            print(f"{rule:60} {after:>6}  {faults[0][:100]}", flush=True)
    return int(bool(missed))


def _campaign(first: int, seeds: int, jobs: int) -> int:
    clock, whole = SystemClock(), Summary()
    began = clock.monotonic_ns()
    for part in _side_by_side(first, seeds, jobs):
        whole.add(part)
        if whole.schedules % PROGRESS_EVERY < PART or whole.schedules == seeds:
            per_minute = whole.schedules * MINUTE_NS // (clock.monotonic_ns() - began)
            _say(f"{whole.schedules} of {seeds}: {per_minute} a minute, {len(whole.failed)} failed")
    _report(whole)
    return int(bool(whole.failed) or whole.schedules < seeds)


def _side_by_side(first: int, seeds: int, jobs: int) -> Iterator[Summary]:
    """The campaign's parts as they are done, each process with a share of the seeds."""
    share = -(-seeds // jobs)
    children = []
    for start in range(first, first + seeds, share):
        size = min(share, first + seeds - start)
        command = [sys.executable, "-m", "tests.simulation", "--part"]
        command += ["--first", str(start), "--seeds", str(size)]
        children.append(subprocess.Popen(command, stdout=subprocess.PIPE))
    try:
        while children:
            for child in [*children]:
                assert child.stdout is not None
                if line := child.stdout.readline():
                    yield msgspec.json.decode(line, type=Summary)
                else:
                    children.remove(child)
                    child.wait()
    finally:
        for child in children:
            child.kill()
            child.wait()


def _part(first: int, seeds: int) -> int:
    """A share of a campaign: a line of JSON for each hundred schedules, failures told at once."""
    with simulated():
        summary = Summary()
        for seed in range(first, first + seeds):
            if faults := summary.run(seed):
                _say(told(seed, faults))
            if summary.schedules == PART or seed == first + seeds - 1:
                print(msgspec.json.encode(summary).decode(), flush=True)
                summary = Summary()
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _report(whole: Summary) -> None:
    print(f"{whole.schedules} schedules, {whole.rewinds} rewinds, {len(whole.failed)} failed")
    for title, counts in (("faults", whole.struck), ("recovered", whole.recovered)):
        print(f"{title}: " + ", ".join(f"{name} {n}" for name, n in sorted(counts.items())))
    print(f"at {len(whole.points)} points:")
    cells = [f"{point} {n}" for point, n in sorted(whole.points.items())]
    width = max(map(len, cells), default=0)
    for at in range(0, len(cells), 3):
        print("  " + "  ".join(cell.ljust(width) for cell in cells[at : at + 3]))
    for seed, faults in sorted(whole.failed.items()):
        print(f"failed: seed {seed}: {faults[0]}")


if __name__ == "__main__":
    sys.exit(main())
