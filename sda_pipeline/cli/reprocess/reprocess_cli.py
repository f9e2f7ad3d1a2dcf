"""``sda-reprocess``: the command line. What the commands do is in the modules beside it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sda_pipeline.cli.reprocess.moments import Moment
from sda_pipeline.cli.reprocess.plain_text import plain
from sda_pipeline.cli.reprocess.reprocess_options import (
    DefaultRun,
    RateParam,
    TopicParam,
    filter_options,
    json_option,
    place_options,
)
from sda_pipeline.cli.reprocess.speaking import ReaderGone, Speaker, silence_stdout
from sda_pipeline.clock import SystemClock
from sda_pipeline.dlq.filters import Filters
from sda_pipeline.errors import ExitCode, SdaError, UsageError, disk_fault

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=DefaultRun, context_settings=CONTEXT)
def cli() -> None:
    """Put records that were refused back into the pipeline, once their cause is cured.

    \b
    sda-reprocess list --since 2h                 what was refused
    sda-reprocess show DLQ_ID                     one entry: payload, reason, history
    sda-reprocess run --dry-run                   what would happen to each, nothing is sent
    sda-reprocess run --error-kind ValidationFailed --operator radar

    Without a command the options are those of 'run'. A re-injected record keeps its bytes, key and
    timestamp and takes the normal path: an old one counts as late, a known one as a duplicate. It
    works on a running and on a stopped pipeline.

    \b
    Exit codes: 0 done, 1 internal fault or interrupted, 2 wrong usage, 3 invalid configuration, 4
    another one runs (migrate: the pipeline does), 7 state corrupt, 8 broker or disk unreachable.
    """


@cli.command(context_settings=CONTEXT)
@place_options
@filter_options
@click.option("--dry-run", is_flag=True, help="Tell what would happen and send nothing.")
@click.option(
    "--target-topic",
    type=TopicParam(),
    metavar="TOPIC",
    help="Send there instead, to try it out; made if missing. Counts apart in the ledger.",
)
@click.option(
    "--rate",
    type=RateParam(),
    metavar="N",
    help="At most so many records a second.  [default: as fast as the broker takes them]",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option(
    "--force",
    is_flag=True,
    help="Also send what is known, was refused after 3 re-injections, or is quarantined.",
)
@json_option("One object at the end: summary and entries.")
def run(
    state: Path | None, topology: Path | None, as_json: bool, target_topic: str | None,
    dry_run: bool, rate: float | None, yes: bool, force: bool, **filters: Any,
) -> None:  # fmt: skip
    """Re-inject entries of the DLQ. Filters combine.

    Tells for every entry what would happen: re-injected, late (and by how much), refused again (and
    why), known, came back (it was refused again: its newer entry stands for it) or skipped (and
    why). Then asks, sends, and writes it down in reprocess.sqlite in the state directory. Whatever
    it is stopped by, run it again: nothing takes effect twice.
    """
    from sda_pipeline.cli.reprocess.reprocess_commands import RunOptions, redrive

    clock = SystemClock()
    if not (dry_run or yes or sys.stdin.isatty()):
        why = "it would have to ask, and there is no terminal"
        raise UsageError("re-inject", why, "give --yes, or --dry-run to see what would happen")
    options = RunOptions(dry_run, target_topic, rate, yes, force)
    speaker = Speaker(asks=not (dry_run or yes), sends=not dry_run)
    plan, sent = redrive(
        _place(state, topology), _filters(clock.wall_ns(), **filters), options, clock,
        (lambda _: None) if as_json else speaker.tell,
        lambda question: click.confirm(question, default=False, err=True),
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(plan.record(sent, dry_run=dry_run)))
    else:
        speaker.end("nothing was sent" if not sent else f"sent {sent} records")


@cli.command("list", context_settings=CONTEXT)
@place_options
@filter_options
@json_option("One object a line.")
def list_(state: Path | None, topology: Path | None, as_json: bool, **filters: Any) -> None:
    """List entries of the DLQ, oldest first."""
    from sda_pipeline.cli.reprocess import reprocess_views as views
    from sda_pipeline.cli.reprocess.reprocess_commands import list_entries

    chosen = _filters(SystemClock().wall_ns(), **filters)
    dlq = list_entries(_place(state, topology), chosen)
    if as_json:
        for entry in dlq.entries:
            click.echo(json.dumps(views.entry_record(entry)))
    elif dlq.entries:
        click.echo(views.entry_table(dlq.entries))
    for skipped in dlq.unreadable:
        click.echo(f"skipped: {skipped.file} line {skipped.line}: {plain(skipped.why)}", err=True)
    click.echo(f"{len(dlq.entries)} of {dlq.total} entries", err=True)


@cli.command(context_settings=CONTEXT)
@click.argument("dlq_id")
@place_options
@click.option("--raw", is_flag=True, help="Only the original bytes.")
@json_option("One object.")
def show(dlq_id: str, state: Path | None, topology: Path | None, raw: bool, as_json: bool) -> None:
    """Show one entry: payload, reason, attempts, history.

    DLQ_ID may be shortened, as far as it stays unambiguous.
    """
    from sda_pipeline.cli.reprocess.reprocess_commands import tell_story

    story = tell_story(_place(state, topology), dlq_id.lower())
    if raw:
        click.echo(story.entry.original_payload, nl=False)
    else:
        click.echo(json.dumps(story.record()) if as_json else story.text)


@cli.command(context_settings=CONTEXT)
@place_options
@json_option("One object a line.")
def ledger(state: Path | None, topology: Path | None, as_json: bool) -> None:
    """Print what was re-injected, oldest first.

    'unconfirmed' is a sending that was stopped before the broker's acknowledgement was written
    down; the next run finds out, or sends it again, which has no second effect.
    """
    from sda_pipeline.cli.reprocess import reprocess_views as views
    from sda_pipeline.dlq.reprocess_ledger import read_sendings

    found = read_sendings(_place(state, topology).state)
    if as_json:
        for sending in found:
            click.echo(json.dumps(views.sending_record(sending)))
    elif found:
        click.echo(views.sending_table(found))


@cli.command(context_settings=CONTEXT)
@place_options
@click.option("--dry-run", is_flag=True, help="Tell what is old and rewrite nothing.")
def migrate(state: Path | None, topology: Path | None, dry_run: bool) -> None:
    """Rewrite old DLQ files in the newest schema version. The pipeline must be stopped.

    Not needed for reading: every version so far is read. What cannot be read stays as it is:
    damaged lines until the next start of the pipeline, which has their rejects sent again.
    """
    from sda_pipeline.cli.reprocess.reprocess_commands import migrate_files
    from sda_pipeline.dlq.entry import SCHEMA_VERSION

    found = migrate_files(_place(state, topology), SystemClock(), click.echo, dry_run=dry_run)
    done = "would be rewritten" if dry_run else "rewritten"
    for file in found:
        left = f", {file.damaged} damaged lines kept" if file.damaged else ""
        for version, count in sorted(file.unknown.items()):
            left += f", {count} of the unknown version {version} kept"
        click.echo(f"{file.path.name}: {file.old} entries {done} as {SCHEMA_VERSION}{left}")
    if any(file.damaged for file in found):
        click.echo(
            "damaged lines: the next start moves them aside and has their rejects sent again"
        )
    click.echo(f"{len(found)} files {done}")


def _place(state: Path | None, topology: Path | None) -> Any:
    from sda_pipeline.cli.reprocess.pipeline_place import find

    return find(state, topology)


def _filters(
    now_ns: int, kinds: Sequence[str], operators: Sequence[str], since: Moment | None,
    until: Moment | None,
) -> Filters:  # fmt: skip
    begin, end = (None if moment is None else moment.at(now_ns) for moment in (since, until))
    if begin is not None and end is not None and begin >= end:
        raise UsageError("select entries", "--since is not before --until", "swap them")
    return Filters(frozenset(kinds), frozenset(operators), begin, end)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console entry point; exits with SPEC 8's codes, errors are one line each."""
    try:
        cli.main(args=arguments, prog_name="sda-reprocess", standalone_mode=False)
    except ReaderGone:
        silence_stdout()
        sys.exit(ExitCode.DONE)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - never a traceback
        found = _as_sda_error(error)
        with contextlib.suppress(OSError):
            print(plain(str(found)), file=sys.stderr, flush=True)
        sys.exit(found.exit_code)
    sys.exit(ExitCode.DONE)


def _as_sda_error(error: BaseException) -> SdaError:
    if isinstance(error, SdaError):
        return error
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "sda-reprocess"
        why = " ".join(error.format_message().split()).rstrip(".")
        return UsageError(f"run '{command}'", why[:1].lower() + why[1:], f"see '{command} --help'")
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return SdaError("finish", "it was interrupted; nothing was sent", "run it again")
    if isinstance(error, OSError) and (fault := disk_fault("go on", error)) is not None:
        return fault
    why = f"{type(error).__name__}: {error}"
    return SdaError("go on", f"internal fault: {why}", "report it with this line")


if __name__ == "__main__":
    main()
