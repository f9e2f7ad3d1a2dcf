"""``python -m tests.simulation --seeds N``; ``--seed S --trace`` replays one schedule exactly."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.campaign import Summary, world_of
from tests.simulation.seams import simulated


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args()
    with simulated():
        if options.seed is not None:
            world = world_of(options.seed, trace=options.trace)
            faults = world.run()
            print("\n".join(world.trace or []))
            print(world.plan)
            print(faults)
            return bool(faults)
        summary = Summary()
        began = time.monotonic()
        for seed in range(options.first, options.first + options.seeds):
            if faults := summary.run(seed):
                print(seed, faults[:3])
        took = time.monotonic() - began
        print(
            summary.schedules,
            summary.struck,
            len(summary.points),
            summary.rewinds,
            summary.decisions,
            "failed",
            len(summary.failed),
            took,
            summary.schedules / took * 60,
        )
    return bool(summary.failed)


if __name__ == "__main__":
    sys.exit(main())
