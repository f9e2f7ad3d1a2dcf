"""``run``, ``list``, ``show``, ``migrate`` as functions: read, ask the core, perform."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sda_pipeline import failpoints
from sda_pipeline.broker.connect import open_producer
from sda_pipeline.cli.reprocess import gathering
from sda_pipeline.cli.reprocess import reprocess_views as views
from sda_pipeline.cli.reprocess.pipeline_place import Judges, Place, judges_of, locked
from sda_pipeline.cli.reprocess.plain_text import plain
from sda_pipeline.cli.reprocess.redriving import Redriver
from sda_pipeline.cli.reprocess.reprocess_summary import summary_of, summary_text
from sda_pipeline.clock import Clock
from sda_pipeline.dlq.entry import Entry
from sda_pipeline.dlq.filters import Filters
from sda_pipeline.dlq.migration import Found, look, migrate
from sda_pipeline.dlq.redrive import Outcome, Sending, name_of, root_of
from sda_pipeline.dlq.reprocess_ledger import ReprocessLedger, read_sendings
from sda_pipeline.errors import SdaError, UsageError

Ask = Callable[[str], bool]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class RunOptions:
    """Of ``run``."""

    dry_run: bool = False
    target_topic: str | None = None
    rate: float | None = None
    yes: bool = False
    force: bool = False


@dataclass(frozen=True)
class Plan:
    """What would happen, told before anything does."""

    outcomes: list[Outcome]
    summary: dict[str, Any]

    def record(self, sent: int, *, dry_run: bool) -> dict[str, Any]:
        """The whole of it for programs."""
        entries = [views.outcome_record(outcome) for outcome in self.outcomes]
        return {"dry_run": dry_run, "sent": sent, "summary": self.summary, "entries": entries}

    @property
    def text(self) -> str:
        """The whole of it for a person."""
        table = views.outcome_table(self.outcomes) + "\n\n" if self.outcomes else ""
        return table + summary_text(self.summary)


def make_plan(
    place: Place, filters: Filters, options: RunOptions, sendings: Sequence[Sending], clock: Clock
) -> Plan:
    """Read everything and decide. Changes nothing."""
    dlq = gathering.read_dlq(place, filters)
    _check_operators(place, filters, dlq)
    judges: Judges = judges_of(place)
    outcomes, fronts = gathering.outcomes(
        place, dlq, sendings, judges, options.target_topic, clock=clock, force=options.force
    )
    return Plan(outcomes, summary_of(outcomes, dlq.total, dlq.unreadable, judges, fronts))


def redrive(
    place: Place, filters: Filters, options: RunOptions, clock: Clock, tell: Tell, ask: Ask
) -> tuple[Plan, int]:
    """``run``: tell the plan, ask, send. Returns the plan and how many were sent.

    ``tell`` takes the plan as text, ``ask`` a question. Errors as the ledger's and the broker's.
    """
    if options.dry_run:
        plan = make_plan(place, filters, options, read_sendings(place.state), clock)
        tell(plan.text)
        return plan, 0
    with ReprocessLedger(place.state) as ledger:
        plan = make_plan(place, filters, options, [*ledger.sendings()], clock)
        tell(plan.text)
        failpoints.hit("reprocess.after_plan")
        _settle(plan, ledger, clock)
        wanted = plan.summary["sends"]
        if not wanted or not (options.yes or ask(_question(plan, options))):
            return plan, 0
        redriver = Redriver(
            open_producer(place.topology.broker, clock, kafka=place.topology.kafka), ledger, clock
        )
        try:
            if options.target_topic is not None:
                redriver.create(options.target_topic, place.topology.broker_partitions)
            with _progress(wanted) as told:
                redriver.send(plan.outcomes, options.rate, told)
        except KeyboardInterrupt as error:
            done = f"{redriver.sent} of {wanted} were sent and are in the ledger"
            raise SdaError("finish", f"interrupted; {done}", "run it again to go on") from error
        finally:
            redriver.close()
    return plan, redriver.sent


def _settle(plan: Plan, ledger: ReprocessLedger, clock: Clock) -> None:
    """Complete what a killed run left open and what has arrived since, as log or DLQ show."""
    open_ones = [o.facts.sent for o in plan.outcomes if o.settled and o.facts.sent is not None]
    if open_ones:
        ledger.complete(open_ones, clock.wall_ns())


def _question(plan: Plan, options: RunOptions) -> str:
    where = options.target_topic or "the topics they came from"
    again = plan.summary["refused_again"]
    more = f" ({again} of them will be refused again)" if again else ""
    return f"Send {plan.summary['sends']} records to {where}{more}?"


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("re-injecting", total=total)
        yield lambda count: progress.update(task, advance=count)


def _check_operators(place: Place, filters: Filters, dlq: gathering.Dlq) -> None:
    known = {*place.topology.sources, *dlq.by_operator}
    unknown = sorted(filters.operators - known)
    if unknown:
        raise UsageError(
            f"select entries of {', '.join(unknown)}", "there is no such operator in the DLQ",
            f"there are {', '.join(sorted(known))}",
        )  # fmt: skip


def list_entries(place: Place, filters: Filters) -> gathering.Dlq:
    """``list``: the entries that match."""
    dlq = gathering.read_dlq(place, filters)
    _check_operators(place, filters, dlq)
    return dlq


@dataclass(frozen=True)
class Story:
    """``show``: one entry, all lives of its record, all sendings of it."""

    entry: Entry
    lives: list[Entry]
    sendings: list[Sending]
    readable: str  # what today's decoder makes of the payload

    def record(self) -> dict[str, Any]:
        """For programs."""
        return {
            **views.entry_record(self.entry),
            "payload": views.payload_of(self.entry),
            "decoder_says": self.readable or None,
            "lives": [views.entry_record(life) for life in self.lives],
            "sendings": [views.sending_record(sending) for sending in self.sendings],
        }

    @property
    def text(self) -> str:
        """For a person."""
        facts = views.entry_record(self.entry)
        width = max(map(len, facts))
        lines = [
            f"{name:<{width}}  {'-' if fact is None else plain(str(fact))}"
            for name, fact in facts.items()
        ]
        lines += ["", "payload", views.payload_text(self.entry)]
        if self.readable:
            lines += ["", f"this release refuses it again: {plain(self.readable)}"]
        if len(self.lives) > 1:
            lines += ["", "lives of this record", views.entry_table(self.lives)]
        if self.sendings:
            lines += ["", "re-injected", views.sending_table(self.sendings)]
        return "\n".join(lines)


def tell_story(place: Place, beginning: str) -> Story:
    """The entry whose ``dlq_id`` begins so. UsageError when there is none or more than one."""
    dlq = gathering.read_dlq(place, Filters())
    names = {name_of(entry): entry for entry in dlq.entries if name_of(entry).startswith(beginning)}
    if len(names) != 1:
        why = f"{len(names)} entries begin so" if names else "there is none in the DLQ"
        raise UsageError(f"show entry {beginning!r}", why, "see 'sda-reprocess list'")
    ((_, entry),) = names.items()
    root = root_of(entry)
    lives = [e for e in dlq.entries if root_of(e) == root]
    lives.sort(key=lambda e: (e.attempts, e.timestamp_unix_ms))
    sendings = [s for s in read_sendings(place.state) if s.root == root]
    return Story(entry, lives, sendings, gathering.read_record(place, entry).unreadable)


def migrate_files(place: Place, clock: Clock, tell: Tell, *, dry_run: bool) -> list[Found]:
    """``migrate``: the files that were (or would be) rewritten. ``tell`` hears what was odd."""
    if not place.dlq.exists():
        return []
    if dry_run:
        return [found for found in look(place.dlq) if found.old]
    with locked(place, "rewrite the DLQ's files"):
        return [*migrate(place.dlq, clock.wall_ns(), tell)]
