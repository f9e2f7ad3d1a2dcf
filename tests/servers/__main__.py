"""``python -m tests.servers fetch | run``: bring the real servers, or run them for a command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import ExitCode, SdaError
from tests.servers.cache import cache_root, infra_is_required, say
from tests.servers.recipes import TOXIPROXY, VERSITYGW, fetch_kafka

RECIPES: dict[str, Callable[[], bool]] = {
    "Kafka": fetch_kafka,
    "VersityGW": VERSITYGW.fetch,
    "Toxiproxy": TOXIPROXY.fetch,
}


def fetch(*, optional: bool) -> int:
    """Bring all servers, each on its own; every failure is named."""
    clock, faults = SystemClock(), 0
    for name, recipe in RECIPES.items():
        began = clock.monotonic_ns()
        try:
            fetched = recipe()
        except SdaError as error:
            print(error, file=sys.stderr)
            faults += 1
        else:
            took = (clock.monotonic_ns() - began) / 1e9
            say(f"{name} fetched in {took:.0f} s" if fetched else f"{name} is there")
    if not faults:
        return ExitCode.DONE
    if optional and not infra_is_required():
        say(f"{faults} missing: tests that need them will be skipped")
        return ExitCode.DONE
    return ExitCode.UNREACHABLE


def run(options: argparse.Namespace) -> int:
    """Both servers, for a command or until Ctrl-C."""
    from tests.servers.serve import Topic, serve  # needs the clients; fetching does not

    try:
        topics = [Topic.parse(text) for text in options.topic]
        return serve(options.directory, topics, options.argv)
    except SdaError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch", help=f"fill the cache ({cache_root()})")
    fetching.add_argument(
        "--optional", action="store_true", help="no failure outside CI: the tests will skip"
    )
    running = commands.add_parser("run", help="a broker and an S3 store while a command runs")
    running.add_argument("--directory", type=Path, help="keep topics and objects there")
    running.add_argument("--topic", action="append", default=[], help="NAME[:PARTITIONS], made")
    running.add_argument("argv", nargs="*", help="after --: gets KAFKA_BOOTSTRAP, S3_ENDPOINT, ...")
    options = parser.parse_args()
    if options.command == "fetch":
        return fetch(optional=options.optional)
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
