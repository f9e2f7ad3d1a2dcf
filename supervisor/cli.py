"""``sda-supervisor``: starting a pipeline and speaking to a running one. Reading it: cli_views.py.

Every wrong use ends in one line ``cannot ...: why; what to do`` and its exit code (SPEC 8).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import ExitCode, NotRunning, SdaError, UsageError, disk_fault
from sda_pipeline.limits import DRAIN_WITHIN_S, READY_WITHIN_S, SECOND_NS
from sda_pipeline.runtime.launch import RunFlags
from sda_pipeline.topology import load_topology
from supervisor.cli_views import VIEWS
from supervisor.cli_wait import wait
from supervisor.control import ask
from supervisor.options import Duration, state_of, state_option
from supervisor.policy import DRAIN_PATIENT_S
from supervisor.runner import Options
from supervisor.session import run_session
from supervisor.status import status_text

_GRACE_S = 15.0  # beyond the supervisor's own deadline: reaping and closing
_POLL_S = 0.05


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Run and watch a conjunction-alert pipeline.

    \b
    sda-supervisor demo             try it out: synthetic traffic, alerts in a live table
    sda-supervisor start            run ./topology.yaml here; Ctrl-C drains it
    sda-supervisor status           what every operator does       (another terminal)
    sda-supervisor alerts --follow  alerts as they arrive
    sda-supervisor audit            prove that no observation was lost

    A pipeline is found by its state directory: --state DIR, else the 'state' of ./topology.yaml.
    Everything may be killed at any time; the next start goes on where it stopped.

    \b
    Exit codes: 0 done, 1 internal fault, 2 wrong usage, 3 invalid configuration, 4 already
    running, 5 not running, 6 restart budget spent, 7 state corrupt, 8 broker or store unreachable.
    """


@cli.command()
@click.argument("topology", type=click.Path(path_type=Path), default=Path("topology.yaml"))
@click.option("--for", "for_s", type=Duration(), help="Drain after running for so long, e.g. 60s.")
@click.option("--until-idle", is_flag=True, help="Drain when all that was sent is delivered.")
@click.option(
    "--end-of-input",
    is_flag=True,
    help="The input is finite: close every window at its end, deliver, mark the state complete.",
)
@click.option(
    "--accept-catalogue", is_flag=True, help="Go on with another catalogue than the state's."
)
@click.option(
    "--allow-fresh",
    is_flag=True,
    help="Begin anew, once, if neither this disk nor the remote has a state that serves.",
)
def start(
    topology: Path, for_s: float | None, until_idle: bool, end_of_input: bool,
    accept_catalogue: bool, allow_fresh: bool,
) -> None:  # fmt: skip
    """Run a pipeline here until Ctrl-C or 'stop'.

    TOPOLOGY is a topology file (default: topology.yaml). Ctrl-C drains: the sources stop, then each
    operator finishes what is on its way to it; a second Ctrl-C kills what is left. Both are safe.
    """
    flags = RunFlags(end_of_input, until_idle, accept_catalogue, allow_fresh)
    run_session(load_topology(topology), Options(flags, for_s), SystemClock(), _say)


@cli.command()
@click.argument("topology", type=click.Path(path_type=Path), default=Path("topology.yaml"))
@click.option(
    "--rate",
    type=click.FloatRange(1, 100_000),
    default=2000.0,
    show_default=True,
    help="Observations per second, all sensors together.",
)
@click.option("--for", "for_s", type=Duration(), help="Drain after so long, e.g. 60s.")
@click.option("--plain", is_flag=True, help="Lines instead of a table, as when piped.")
def demo(topology: Path, rate: float, for_s: float | None, plain: bool) -> None:
    """Run a pipeline on synthetic traffic and watch its alerts arrive.

    TOPOLOGY is a topology file (default: topology.yaml). This is 'sda-sim catalogue' where there is
    no catalogue yet or its encounters are over, 'sda-supervisor start', 'sda-sim run', and a look
    at what the subscriber commits, in one command. Ctrl-C drains all of it and sums up; run again,
    it goes on with the same state. A catalogue that is not the simulator's is never overwritten.

    On a terminal the alerts are a live table, newest change first; elsewhere one line per effect
    on stdout, progress on stderr. NO_COLOR is respected. In another terminal you can meanwhile

    \b
      sda-supervisor status             see every process
      sda-supervisor restart radar --kill
                                        kill one and see that no alert is lost or repeated
      sda-supervisor audit              prove that every observation is accounted for
    """
    from supervisor.demo import DemoOptions, run_demo

    run_demo(topology, DemoOptions(rate, for_s, plain), SystemClock())


@cli.command()
@state_option
@click.option("--now", is_flag=True, help="Kill instead of drain; nothing is lost by it.")
def stop(state: Path | None, now: bool) -> None:
    """Drain the pipeline and wait until it is gone.

    What has not finished within the topology's drain_within_s is killed; nothing is lost by it.
    """
    _stop(state_of(state), "stop", DRAIN_WITHIN_S * 10, now=now)


@cli.command()
@state_option
def drain(state: Path | None) -> None:
    """Like stop, with five minutes of patience."""
    _stop(state_of(state), "drain", DRAIN_PATIENT_S)


@cli.command()
@click.argument("operator")
@state_option
@click.option("--kill", is_flag=True, help="SIGKILL instead of letting it finish its input.")
def restart(operator: str, state: Path | None, kill: bool) -> None:
    """Give one operator a new process.

    The others run on. Returns when the new OPERATOR process has recovered and is ready.
    """
    directory, clock = state_of(state), SystemClock()
    before = ask(directory, "restart", f"restart {operator}", operator=operator, kill=kill)[
        "incarnation"
    ]
    deadline = clock.monotonic_ns() + round((DRAIN_WITHIN_S + READY_WITHIN_S) * SECOND_NS)
    while clock.monotonic_ns() < deadline:
        found = {
            o["name"]: o for o in ask(directory, "status", f"see {operator} ready")["operators"]
        }[operator]
        if found["incarnation"] > before and found["state"] == "running":
            click.echo(f"{operator} is ready: pid {found['pid']}, life {found['incarnation']}")
            return
        clock.sleep(_POLL_S)
    raise SdaError(f"restart {operator}", "it is not ready yet", "see 'sda-supervisor status'")


@cli.command()
@state_option
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
def status(state: Path | None, as_json: bool) -> None:
    """Show what a running pipeline does."""
    found = ask(state_of(state), "status", "show the status")
    found.pop("supervisor_pid")
    click.echo(json.dumps(found, indent=2) if as_json else status_text(found))


for _view in (*VIEWS, wait):
    cli.add_command(_view)


def _stop(state: Path, verb: str, within_s: float, **arguments: Any) -> None:
    """Ask, then wait for the supervisor's death, which comes after that of every operator."""
    pid = ask(state, "ping", f"{verb} the pipeline")["supervisor_pid"]
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ask(state, verb, f"{verb} the pipeline", **arguments)
        if not select.select([pidfd], [], [], within_s + _GRACE_S)[0]:
            hint = "see 'sda-supervisor status', or use 'stop --now'"
            raise SdaError(f"{verb} the pipeline", f"pid {pid} is still there", hint)
    except NotRunning:
        if not select.select([pidfd], [], [], _GRACE_S)[0]:
            raise  # it lives and does not answer
    finally:
        os.close(pidfd)
    click.echo("stopped")


def _say(line: str) -> None:
    """Progress on stdout; a reader that went away must not stop a pipeline."""
    with contextlib.suppress(OSError, ValueError):
        print(line, flush=True)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; errors are one line on stderr."""
    try:
        result = cli.main(args=arguments, prog_name="sda-supervisor", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return ExitCode.USAGE
    except (BrokenPipeError, SystemExit):  # click exits when the reader of stdout goes away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - never a traceback
        return _report(_as_sda_error(error))
    return result if isinstance(result, int) else ExitCode.DONE


def _as_sda_error(error: BaseException) -> SdaError:
    if isinstance(error, SdaError):
        return error
    if isinstance(error, OSError) and (fault := disk_fault("go on", error)) is not None:
        return fault
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "sda-supervisor"
        why = error.format_message().strip().rstrip(".").replace("\n", " ")
        return UsageError(f"run '{command}'", why[:1].lower() + why[1:], f"see '{command} --help'")
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return SdaError("finish", "it was interrupted", "run it again")
    why = f"{type(error).__name__}: {error}"
    return SdaError("go on", f"internal fault: {why}", "see logs/supervisor.jsonl in the state")


def _report(error: SdaError) -> int:
    click.echo(str(error), err=True)
    for line in getattr(error, "details", ()):
        click.echo(f"  {line}", err=True)
    return error.exit_code


def main() -> NoReturn:
    """Entry point of ``sda-supervisor``."""
    sys.exit(run(sys.argv[1:]))
