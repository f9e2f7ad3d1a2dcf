"""``make faults``: every class of fault under traffic, and a table of what it cost.

Writes build/faults.json. Zeros are expected under lost and repeated; anything else exits 1.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.bench.bench_figures import percentile
from tests.faults.catalogue_of_faults import Fault, catalogue_of_faults
from tests.faults.experiment import Experiment, Result
from tests.process import verdict
from tests.process.flow import SEED
from tests.process.site import Site, prepare

OUT = Path("build") / "faults.json"
HEAD = ("fault", "how injected", "runs", "faults", "lost", "repeated", "p50 s", "p99 s")


def main() -> int:
    options = _options()
    for number in (signal.SIGINT, signal.SIGTERM):  # either way nothing is left behind
        signal.signal(number, signal.default_int_handler)
    wanted = [f for f in catalogue_of_faults() if options.only in f.name]
    results: dict[tuple[str, str], Result] = {}
    with tempfile.TemporaryDirectory(prefix="sda-faults-") as directory:
        root = Path(directory)
        prepared = prepare(root / "prepared")
        undisturbed = _undisturbed(prepared, root)
        for number, fault in enumerate(wanted, 1):
            result = results.setdefault((fault.name, fault.how), Result())
            for turn in range(1 if fault.once else options.rounds):
                _say(f"{number} of {len(wanted)}: {fault.name} ({turn + 1})")
                _run(
                    fault, prepared, root / f"run-{number}-{turn}", SEED + turn, undisturbed, result
                )
            for note in result.notes:
                _say(f"  {note}")
    _write(results)
    print(table(results))
    return int(any(result.lost or result.repeated for result in results.values()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="runs of each fault (default 2)")
    parser.add_argument("--only", default="", help="only faults whose name contains this")
    return parser.parse_args()


def _undisturbed(prepared: Site, root: Path) -> dict[str, str]:
    site = prepared.copy_to(root / "undisturbed")
    site.finish()
    return verdict.finals(site)


def _run(
    fault: Fault, prepared: Site, root: Path, seed: int, undisturbed: dict[str, str], result: Result
) -> None:
    experiment = Experiment(prepared, root, seed, **fault.setup)
    try:
        fault.inject(experiment)
        experiment.close(undisturbed, result)
    except AssertionError as error:  # it did not get to its end: nothing is worse
        result.lost += 1
        result.notes.append(f"{fault.name}: {error}")
    finally:
        experiment.watcher.close()
        experiment.site.clear()
        shutil.rmtree(root)


def table(results: dict[tuple[str, str], Result]) -> str:
    """The table as Markdown."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD)]
    for (name, how), result in results.items():
        times = [percentile(result.seconds, share) for share in (50, 99)]
        shown = ["-" if value is None else f"{value:.2f}" for value in times]
        cells = [name, how, result.runs, result.faults, result.lost, result.repeated, *shown]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _write(results: dict[tuple[str, str], Result]) -> None:
    OUT.parent.mkdir(exist_ok=True)
    rows = [
        {"fault": name, "how": how, **msgspec.to_builtins(result)}
        for (name, how), result in results.items()
    ]
    OUT.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("cannot finish the table: interrupted")
