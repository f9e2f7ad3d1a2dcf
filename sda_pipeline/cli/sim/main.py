"""``sda-sim``: the command line of the simulator.

What the commands do is in the modules beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson

from sda_pipeline.cli.sim import commands, making
from sda_pipeline.cli.sim.arguments import Duration, Instant, Speed
from sda_pipeline.cli.sim.faults import FaultMix
from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import ExitCode, SdaError

F = TypeVar("F", bound=Callable[..., Any])
FRACTION = click.FloatRange(0.0, 1.0)
RATE = click.FloatRange(0.0, 1_000_000.0, min_open=True)
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

topology_option = click.option(
    "--topology",
    type=click.Path(path_type=Path),
    default=Path("topology.yaml"),
    show_default=True,
    help="Names catalogue, sensors, topics and broker.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the closing summary as one JSON object."
)


TRAFFIC_OPTIONS = (
    click.option(
        "--rate",
        type=RATE,
        default=None,
        help="Observations per second, all sensors together. Engineered objects come first, "
        "the background fills the rest.  [default: 100; none with --all-objects]",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0),
        default=1,
        show_default=True,
        help="Draws times, sensors, noise and faults. The catalogue has a seed of its own.",
    ),
    click.option(
        "--truth",
        type=click.Path(path_type=Path),
        default=None,
        help="Truth file to read.  [default: <catalogue>.truth.json]",
    ),
    click.option(
        "--noise-free",
        is_flag=True,
        help="Report exact measurements; stated sigmas stay as they are.",
    ),
    click.option(
        "--on-catalogue",
        is_flag=True,
        help="Objects keep exactly to their elements (c = 0); needs no truth file.",
    ),
    click.option(
        "--all-objects",
        is_flag=True,
        help="Observe every object at 0.2-0.5 Hz, not only the engineered ones.",
    ),
    click.option(
        "--corrupt",
        type=FRACTION,
        default=0.0,
        metavar="FRACTION",
        help="Add so many bad messages: broken JSON, unknown objects, impossible physics...",
    ),
    click.option(
        "--duplicates",
        type=FRACTION,
        default=0.0,
        metavar="FRACTION",
        help="Send so many messages a second time within 2 s.",
    ),
    click.option(
        "--late",
        type=FRACTION,
        default=0.0,
        metavar="FRACTION",
        help="Add so many messages that arrive after the allowed lateness.",
    ),
    click.option(
        "--truth-out",
        type=click.Path(path_type=Path),
        default=None,
        help="Where to write the truth of this traffic: span, counts, injected faults and the "
        "class each must end in.  [default: record FILE.truth.json; run: with faults only, "
        "<catalogue>.run-truth.json]",
    ),
)


def traffic_options(command: F) -> F:
    """Options of everything that generates observations."""
    for option in reversed(TRAFFIC_OPTIONS):
        command = option(command)
    return command


@click.group(context_settings=CONTEXT)
def cli() -> None:
    """Make a synthetic catalogue and the observations of it, live or as a recording.

    \b
    sda-sim catalogue                    # elements, sensors (if there are none) and the truth
    sda-sim run --rate 200               # observe it live, into the topology's broker
    sda-sim record obs.jsonl --for 5m    # the same into a file ...
    sda-sim play obs.jsonl --speed max   # ... which can be played any number of times

    \b
    Exit codes: 0 done, 1 internal fault or interrupted, 2 wrong usage, 3 invalid configuration,
    7 the broker's files are damaged, 8 broker or disk unreachable.
    """


@cli.command(context_settings=CONTEXT)
@topology_option
@click.option(
    "--epoch",
    type=Instant(),
    default=None,
    help="T0, UTC; the first encounter is 12 s later.  [default: now]",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Draws orbits, offsets and encounters.",
)
@click.option("--objects", type=int, default=2000, show_default=True, help="1 to 26,000.")
@click.option(
    "--minutes",
    type=click.FloatRange(0.0, 1440.0),
    default=15.0,
    show_default=True,
    help="How long there are engineered encounters.",
)
@click.option(
    "--per-minute",
    type=click.FloatRange(0.1, 600.0),
    default=30.0,
    show_default=True,
    help="Engineered encounters a minute.",
)
@click.option(
    "--on-catalogue",
    is_flag=True,
    help="Objects keep exactly to their elements (c = 0), so true miss = catalogue miss.",
)
@click.option(
    "--keep-current",
    is_flag=True,
    help="Write nothing when the present catalogue still has a minute of encounters left.",
)
@json_option
def catalogue(topology: Path, as_json: bool, **options: Any) -> None:
    """Write the topology's catalogue: a background of orbits and engineered encounters.

    Beside it goes <catalogue>.truth.json: the true offset of each object from its elements, and
    of each encounter the true time, the true miss and the level it should get. The topology's
    sensors file is written only if it does not exist.
    """
    made = making.make_catalogue(topology, making.CatalogueOptions(**options), SystemClock())
    _report(made, as_json=as_json)


@cli.command(context_settings=CONTEXT)
@topology_option
@click.option(
    "--for",
    "for_ns",
    type=Duration(),
    default=None,
    help="Stop after so long, like 60s or 15m.  [default: until Ctrl-C]",
)
@traffic_options
@json_option
def run(topology: Path, as_json: bool, **options: Any) -> None:
    """Observe the catalogue live: each message is produced when the clock reaches its timestamp.

    Radar arrives within 0.1 s of the event, inter-satellite links within seconds, optical up to
    tens of seconds late. Ctrl-C or SIGTERM ends it with a summary.
    """
    done = commands.run(topology, _traffic(options), SystemClock(), _say)
    _report(done, as_json=as_json)


@cli.command(context_settings=CONTEXT)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@topology_option
@click.option(
    "--from",
    "from_ns",
    type=Instant(),
    default=None,
    help="First event time.  [default: the catalogue's T0]",
)
@click.option(
    "--for",
    "for_ns",
    type=Duration(),
    default=None,
    help="Span of event time.  [default: until the last engineered encounter]",
)
@traffic_options
@json_option
def record(file: Path, topology: Path, as_json: bool, **options: Any) -> None:
    """Write observations to FILE instead of the broker, as fast as they can be made.

    \b
    JSON Lines in order of the broker timestamp (event time + latency), one message a line:
      topic, key    text
      value         the observation, a JSON object; or
      raw           the message's bytes in base64 (what is no JSON object)
      timestamp_ms  optional; without it a message is sent with the time of playing
      headers       optional object of texts
    Equal arguments give equal bytes. Of an arbitrary catalogue, without a truth file:

    \b
    sda-sim record obs.jsonl --on-catalogue --noise-free --all-objects \\
        --from 2009-02-10T16:55:00Z --for 60s
    """
    done = commands.record(file, topology, _traffic(options))
    _report(done, as_json=as_json)


@cli.command(context_settings=CONTEXT)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@topology_option
@click.option(
    "--speed",
    type=Speed(),
    default=1.0,
    show_default=True,
    help="1 as recorded, 10 ten times faster, max as fast as the broker takes it.",
)
@json_option
def play(file: Path, topology: Path, speed: float, as_json: bool) -> None:
    """Produce a recording into the topology's broker, with its own keys and timestamps.

    Old timestamps are kept, so the pipeline treats the events as of their own time: start it with
    --end-of-input (or idle_after: off) to get the final alerts of a recording.
    """
    done = commands.play(file, topology, speed, SystemClock(), _say)
    _report(done, as_json=as_json)


def _traffic(options: dict[str, Any]) -> commands.TrafficOptions:
    mix = FaultMix(*(options.pop(name) for name in ("corrupt", "duplicates", "late")))
    return commands.TrafficOptions(mix=mix, **options)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _report(done: making.Report, *, as_json: bool) -> None:
    print(orjson.dumps(done.facts).decode() if as_json else done.text, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console entry point; exits with SPEC 8's codes, errors are one line."""
    try:
        cli.main(args=arguments, prog_name="sda-sim", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(ExitCode.USAGE)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "sda-sim"
        why = " ".join(error.format_message().split()).rstrip(".")
        _say(f"cannot run `{command}`: {why}; see `{command} --help`")
        sys.exit(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        _say("cannot finish: interrupted; nothing was written, run it again")
        sys.exit(ExitCode.INTERNAL)
    except SdaError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    sys.exit(ExitCode.DONE)


if __name__ == "__main__":
    main()
