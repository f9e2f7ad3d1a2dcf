"""The reading half of ``sda-supervisor``: alerts, effects, logs, audit, validate, graph.

All but ``audit`` on a running pipeline work from files alone, so they work on a stopped one too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import ExitCode, InvalidConfiguration, NotRunning, SdaError, UsageError
from sda_pipeline.topology import SUPERVISOR, load_inputs, load_topology
from supervisor import logtail, named_files, picture
from supervisor.control import ask
from supervisor.options import state_of, state_option
from supervisor.session import resolved_topology
from supervisor.status import table

_FOLLOW_EVERY_S = 0.3
_Record = dict[str, Any]


@click.command()
@state_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, whole records.")
@click.option("--final", is_flag=True, help="Only final alerts: nothing can change them any more.")
@click.option("--follow", "-f", is_flag=True, help="Go on and print each change; Ctrl-C ends.")
def alerts(state: Path | None, as_json: bool, final: bool, follow: bool) -> None:
    """Print the last record of each alert."""
    from sda_pipeline.state.alert_log import read_alerts

    path = resolved_topology(state_of(state)).state / "alerts.sqlite"
    if follow:
        _follow(lambda: read_alerts(path, final_only=final), as_json=as_json)
    elif as_json:
        _print_json(read_alerts(path, final_only=final))
    else:
        _print_table(_ALERT_HEAD, [*map(_alert, read_alerts(path, final_only=final))])


@click.command()
@state_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def effects(state: Path | None, as_json: bool) -> None:
    """Print the subscriber's ledger: what took effect."""
    from sda_pipeline.state.subscriber_store import FILE_NAME, read_effects

    found = read_effects(resolved_topology(state_of(state)).subscriber / FILE_NAME)
    if as_json:
        _print_json(found)
    else:
        columns = ("at", "effect", "alert_id", "level", "final", "sequence")
        _print_table(columns, [[e[key] for key in columns] for e in found])


@click.command()
@click.argument("operator")
@state_option
@click.option("--follow", "-f", is_flag=True, help="Go on and print each new line; Ctrl-C ends.")
@click.option(
    "--lines",
    "-n",
    default=100,
    show_default=True,
    type=click.IntRange(0, 100_000),
    metavar="N",
    help="Begin with the last N lines.",
)
def logs(operator: str, state: Path | None, follow: bool, lines: int) -> None:
    """Print the log of an operator.

    OPERATOR is a name of the topology, or 'supervisor'. One JSON event a line, with its time in UTC
    ('at'); the operators' own files have it as 'ts_ns'.
    """
    topology = resolved_topology(state_of(state))
    if operator not in (*topology.names, SUPERVISOR):
        known = ", ".join((*topology.names, SUPERVISOR))
        raise UsageError(f"show the log of {operator}", "there is none", f"there are {known}")
    path = topology.state / "logs" / f"{operator}.jsonl"
    if not path.exists():
        raise SdaError(f"show the log of {operator}", "it was never started", "start the pipeline")
    found = logtail.follow(path, lines, SystemClock()) if follow else logtail.tail(path, lines)
    _until_interrupted(map(logtail.readable, found))


@click.command()
@state_option
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
def audit(state: Path | None, as_json: bool) -> int:
    """Prove that no observation was lost.

    Every record read ended in exactly one class, says the arithmetic over all files. Works beside a
    running pipeline. Exit code 1 and one line for each contradiction found.
    """
    from sda_pipeline.runtime.audit import audit as run_audit

    topology = resolved_topology(state_of(state))
    report = run_audit(topology, lambda: _board(topology.state))
    rows = [{**dataclasses.asdict(source), "residue": source.residue} for source in report.sources]
    if as_json:
        click.echo(
            json.dumps(
                {
                    "sources": rows,
                    "faults": report.faults,
                    "notes": report.notes,
                    "waiting": report.waiting,
                },
                indent=2,
            )
        )
    elif rows:
        names = [name for name in rows[0] if name != "source"]
        _print_table(
            ("class", *(row["source"] for row in rows)),
            [(name, *(row[name] for row in rows)) for name in names],
        )
        for what, count in report.waiting.items():
            click.echo(f"{what}: {count}")
    for note in () if as_json else report.notes:
        click.echo(note)
    for fault in report.faults:
        line = fault if fault.startswith("cannot ") else f"cannot prove the sum: {fault}"
        click.echo(line, err=True)
    return ExitCode.INTERNAL if report.faults else ExitCode.DONE


@click.command()
@click.argument("topology", type=click.Path(path_type=Path))
def validate(topology: Path) -> None:
    """Check a topology file and the files it names.

    Reports every fault of the TOPOLOGY file at once, then those of its catalogue, its sensors and
    the files of its section kafka. Asks no broker, no store, and for no secret.
    """
    found = load_topology(topology)
    inputs = load_inputs(found)
    if faults := named_files.missing(found):
        raise InvalidConfiguration("use what the topology names", faults, "correct section kafka")
    refused = len(inputs.catalogue.refused)
    click.echo(f"{topology}: valid")
    click.echo(f"  {len(found.operators)} operators, {len(found.edges)} edges")
    click.echo(
        f"  {inputs.catalogue.n} objects, {refused} refused; {len(inputs.sensors.ids)} sensors"
    )
    click.echo(f"  catalogue hash {inputs.hash:016x}")
    for note in named_files.notes(found):
        click.echo(f"  note: {note}")


@click.command()
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--mermaid", is_flag=True, help="As a Mermaid flowchart.")
def graph(topology: Path, mermaid: bool) -> None:
    """Draw a topology file."""
    found = load_topology(topology)
    click.echo(picture.as_mermaid(found) if mermaid else picture.as_text(found))


VIEWS = (alerts, effects, logs, audit, validate, graph)

_ALERT_HEAD = ("pair", "level", "state", "tca", "miss m", "Pc", "alert")


def _board(state: Path) -> dict[str, int] | None:
    """The board's words; None when nothing runs."""
    try:
        words: dict[str, int] = ask(state, "board", "read the board")["words"]
    except NotRunning:
        return None
    return words


def _alert(record: _Record) -> tuple[Any, ...]:
    miss, pc = record.get("miss_m"), record.get("pc")
    active = record["action"] == "insert"
    return (
        f"{record['sat1']}-{record['sat2']}",
        record.get("level"),
        ("final" if record["final"] else "open") if active else "withdrawn",
        record.get("tca"),
        None if miss is None else f"{miss:.0f}",
        None if pc is None else f"{pc:.2e}",
        record["alert_id"],
    )


def _print_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    click.echo("\n".join(table(head, rows)[1:]))


def _print_json(records: Iterable[_Record]) -> None:
    for record in records:
        click.echo(json.dumps(record))


def _follow(read: Callable[[], Iterable[_Record]], *, as_json: bool) -> None:
    def lines() -> Iterator[str]:
        clock, seen = SystemClock(), dict[str, int]()
        while True:
            for record in read():
                if seen.get(record["alert_id"]) != record["sequence"]:
                    seen[record["alert_id"]] = record["sequence"]
                    cells = ("-" if cell is None else str(cell) for cell in _alert(record))
                    yield json.dumps(record) if as_json else "  ".join(cells)
            clock.sleep(_FOLLOW_EVERY_S)

    _until_interrupted(lines())


def _until_interrupted(lines: Iterable[str]) -> None:
    try:
        for line in lines:
            click.echo(line)
    except KeyboardInterrupt:
        return
