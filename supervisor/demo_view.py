"""How a demo looks: the live table, the line of rates, the closing summary. Pure; draws nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.runtime.audit import SourceAudit
from supervisor.demo_news import (
    Alerts,
    Line,
    changes_text,
    countdown,
    duration,
    levels_text,
    miss_text,
    pc_text,
)

STYLES = {"RED": "bold red", "YELLOW": "yellow", "WATCH": "cyan"}
FRESH_NS = 3 * SECOND_NS  # a change so new stands out
NOTES_SHOWN = 2
ECHO = 3  # "^C" on the last line must not begin a new one
AROUND_TABLE = 7 + NOTES_SHOWN  # lines: head, 2 of the table's own, empty, 3 of sums, notes


@dataclass(frozen=True)
class Facts:
    """The pipeline a moment ago. Counts since the state began; None is unknown."""

    state: str = "starting"
    ready: int = 0
    operators: int = 0
    restarts: int = 0
    lag: int | None = None
    watermark_ns: int | None = None
    read: int = 0
    applied: int = 0
    late: int = 0
    rejected: int = 0
    read_per_s: float = 0.0
    applied_per_s: float = 0.0


class Column(NamedTuple):
    """One column: at ``need`` characters of width and above it is there."""

    name: str
    need: int
    width: int
    right: bool


COLUMNS = (
    Column("pair", 0, 13, right=False),
    Column("level", 21, 6, right=False),
    Column("TCA", 33, 10, right=True),
    Column("change", 51, 16, right=False),
    Column("miss", 61, 8, right=True),
    Column("Pc", 71, 8, right=True),
    Column("since", 79, 6, right=True),
)


@dataclass
class Frame:
    """One picture, for whatever size the terminal has when it is drawn."""

    pipeline: str
    alerts: Alerts
    facts: Facts
    now_ns: int
    seconds: int  # since the demo began
    waiting: str  # said in place of alerts while there is none
    hint: str
    notes: Sequence[str] = field(default=())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.size.height
        yield _cut(head_line(self), width, "bold")
        lines = self.alerts.newest(max(1, height - 1 - AROUND_TABLE))
        if lines:
            yield alert_table(lines, self.now_ns, width)
        else:
            yield Text("")
            yield _cut(self.waiting, width)
        yield Text("")
        for line in (rates_line(self), sums_line(self.facts), alerts_line(self.alerts)):
            yield _cut(line, width)
        for note in self.notes[-NOTES_SHOWN:]:
            yield _cut(note, width, "dim")


def _cut(line: str, width: int, style: str = "") -> Text:
    """One line whatever the width, with room for the ^C a terminal echoes at its end."""
    text = Text(line, style=style)
    text.truncate(max(1, width - ECHO), overflow="ellipsis")
    return text


def head_line(frame: Frame) -> str:
    """Name, state, how long, how many processes, what Ctrl-C does."""
    facts = frame.facts
    count = f"{facts.ready} of {facts.operators}" if facts.ready < facts.operators else facts.ready
    restarts = f", {facts.restarts} restarts" if facts.restarts else ""
    return (
        f"{frame.pipeline} {facts.state} {duration(frame.seconds)}, {count} processes"
        f"{restarts}; {frame.hint}"
    )


def rates_line(frame: Frame) -> str:
    """What goes in, what of it concerns an encounter, what comes out, how far time has come."""
    facts, behind = frame.facts, "-"
    if facts.watermark_ns is not None:
        behind = f"{max(0, frame.now_ns - facts.watermark_ns) / SECOND_NS:.0f} s behind"
    return (
        f"read {facts.read_per_s:,.0f}/s, applied {facts.applied_per_s:,.0f}/s, "
        f"alerts {frame.alerts.in_last_minute(frame.now_ns)}/min, watermark {behind}"
    )


def sums_line(facts: Facts) -> str:
    """Since the state began."""
    lag = f"; {facts.lag:,} wait at the broker" if facts.lag else ""
    return (
        f"in all {facts.read:,} read, {facts.applied:,} applied, {facts.late:,} late, "
        f"{facts.rejected:,} rejected{lag}"
    )


def alerts_line(alerts: Alerts) -> str:
    """The alerts there are, and what happened to them in this run."""
    return f"alerts {levels_text(alerts)}; this run {changes_text(alerts)}"


def alert_table(lines: Sequence[Line], now_ns: int, width: int) -> Table:
    """Newest first, as many columns as fit, one line each."""
    shown = [column for column in COLUMNS if width >= column.need]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for column in shown:
        table.add_column(
            column.name, justify="right" if column.right else "left", no_wrap=True,
            min_width=min(column.width, width), overflow="crop",
        )  # fmt: skip
    for line in lines:
        cells = _cells(line, now_ns)
        style = "dim" if line.level is None or line.final else ""
        table.add_row(*(cells[column.name] for column in shown), style=style)
    return table


def _cells(line: Line, now_ns: int) -> dict[str, Text]:
    fresh = now_ns - line.at_ns < FRESH_NS
    level = line.level or "-"
    return {
        "pair": Text(line.pair),
        "level": Text(level, style=STYLES.get(level, "")),
        "TCA": Text(countdown(line.tca_ns, now_ns)),
        "change": Text(line.change, style="bold" if fresh else ""),
        "miss": Text(miss_text(line.miss_m)),
        "Pc": Text(pc_text(line.pc)),
        "since": Text(duration(max(0, now_ns - line.at_ns) // SECOND_NS)),
    }


# --- the end --------------------------------------------------------------------------------

ALWAYS = ("read", "applied", "late", "rejected")
MEANINGS = {
    "unpaired": "no encounter near",
    "late": "after the allowed lateness",
    "rejected": "in the DLQ",
    "duplicate": "known already",
    "discarded": "empty or too large",
    "superseded": "of another catalogue",
    "missing": "gone before it was read",
    "in_flight": "for the next start",
    "residue": "NOT ACCOUNTED FOR",
}


def summary_lines(sources: Sequence[SourceAudit], alerts: Alerts, seconds: float) -> list[str]:
    """The closing summary: this run's alerts, then the audit of the state."""
    lines = [
        f"ran {duration(round(seconds))}",
        f"alerts of this run    {changes_text(alerts)}",
        f"alerts of this state  {levels_text(alerts)}",
    ]
    if not sources:
        return lines
    columns = [{**asdict(source), "residue": source.residue} for source in sources]
    names = [str(column.pop("source")) for column in columns]
    rows = {key: [int(column[key]) for column in columns] for key in columns[0]}
    width = max(9, *(len(name) + 2 for name in names))
    head = "".join(f"{name:>{width}}" for name in [*names, "all"])
    lines += ["", f"{'observations':<14}{head}"]
    for key, counts in rows.items():
        if key in ALWAYS or any(counts):
            cells = "".join(f"{count:>{width},}" for count in [*counts, sum(counts)])
            meaning = f"  {MEANINGS[key]}" if key in MEANINGS and any(counts) else ""
            lines.append(f"{key.replace('_', ' '):<14}{cells}{meaning}")
    if not any(rows["residue"]):
        lines.append("every observation read is accounted for")
    return lines
