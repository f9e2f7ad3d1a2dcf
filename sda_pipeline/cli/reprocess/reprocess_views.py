"""Entries, verdicts and sendings as tables for people and as JSON for programs. No decisions."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from sda_pipeline.cli.reprocess.pipeline_place import Judges
from sda_pipeline.dlq.entry import Entry
from sda_pipeline.dlq.reading import Skipped
from sda_pipeline.dlq.redrive import Outcome, Sending, Verdict, name_of, root_of
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.time_text import format_time

ID_CHARS = 12  # of a dlq_id in tables; `show` takes any unambiguous beginning
WHERE_MAX = 20  # lines of one unknown version that are named
TEXT_MAX = 4_000  # characters of a payload that is no JSON
_MEANING = {
    Verdict.REINJECT: "judged like any other record",
    Verdict.LATE: "below the watermark: counted late, no alert changes",
    Verdict.KNOWN: "taken or sent before",
    Verdict.CAME_BACK: "refused again: its newer entry stands for it",
    Verdict.SKIPPED: "see the reasons above",
}


def columns(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Left-aligned columns under their heads; ``-`` for None. Rich takes seconds for thousands."""
    cells = [[*map(str, head)], *(["-" if cell is None else str(cell) for cell in r] for r in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    widths[-1] = 0
    form = "  ".join(f"{{:<{width}}}" for width in widths)
    return "\n".join(form.format(*row).rstrip() for row in cells)


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """One entry's verdict for programs."""
    entry, late = outcome.entry, outcome.verdict is Verdict.LATE
    return {
        "dlq_id": name_of(entry),
        "root": root_of(entry),
        "operator": entry.operator,
        "error_kind": entry.error_kind,
        "rejected_at": _at_ms(entry.timestamp_unix_ms),
        "attempts": entry.attempts,
        "topic": outcome.facts.topic,
        "verdict": str(outcome.verdict),
        "why": outcome.why,
        "sends": outcome.sends,
        "late_by_s": outcome.late_by_ns / SECOND_NS if late else None,
        "refused_again": outcome.again or None,
        "unconfirmed": outcome.unconfirmed,
    }


def outcome_table(outcomes: Sequence[Outcome]) -> str:
    """One entry a line, in the order of sending."""
    head = ("entry", "operator", "kind", "rejected at", "attempts", "verdict", "why")
    return columns(head, [
        (
            name_of(o.entry)[:ID_CHARS], o.entry.operator, o.entry.error_kind,
            _at_ms(o.entry.timestamp_unix_ms), o.entry.attempts, o.verdict,
            "; ".join(filter(None, [
                o.why, o.again and f"will be refused again: {o.again}",
                "sent before, unconfirmed" if o.unconfirmed and o.sends else "",
            ])),
        )
        for o in outcomes
    ])  # fmt: skip


def summary_of(
    outcomes: Sequence[Outcome], total: int, unreadable: Sequence[Skipped], judges: Judges
) -> dict[str, Any]:
    """Counts by verdict, what could not be read and by which version, and warnings."""
    verdicts = Counter(outcome.verdict for outcome in outcomes)
    late = [o.late_by_ns / SECOND_NS for o in outcomes if o.verdict is Verdict.LATE]
    return {
        "entries": total,
        "selected": len(outcomes),
        "sends": sum(outcome.sends for outcome in outcomes),
        "verdicts": {str(verdict): verdicts[verdict] for verdict in Verdict},
        "late_by_s": {"least": min(late), "most": max(late)} if late else None,
        "refused_again": sum(bool(outcome.again) for outcome in outcomes),
        "unconfirmed": sum(o.unconfirmed and o.sends for o in outcomes),
        "unknown_versions": _unknown(unreadable),
        "damaged": [
            {"file": s.file, "line": s.line, "why": s.why} for s in unreadable if s.version is None
        ],
        "warnings": [*_warnings(outcomes, judges)],
    }


def _unknown(unreadable: Sequence[Skipped]) -> list[dict[str, Any]]:
    where: dict[int, list[str]] = {}
    for skipped in unreadable:
        if skipped.version is not None:
            where.setdefault(skipped.version, []).append(f"{skipped.file}:{skipped.line}")
    return [
        {"schema_version": version, "entries": len(lines), "where": lines[:WHERE_MAX]}
        for version, lines in sorted(where.items())
    ]


def _warnings(outcomes: Sequence[Outcome], judges: Judges) -> Iterable[str]:
    sends = [outcome for outcome in outcomes if outcome.sends]
    if judges.changed:
        how = "restart" if judges.running else "start"
        yield (
            "catalogue, sensors or physics are not those the state was built with: "
            f"{how} it with 'sda-supervisor start --accept-catalogue' first"
        )
    if sends and not judges.running:
        yield "the pipeline does not run: what is sent waits at the broker until it is started"
    again = sum(bool(outcome.again) for outcome in sends)
    if again:
        yield f"{again} of {len(sends)} will be refused again, with one attempt more"
    if any(outcome.entry.error_kind == "Quarantined" for outcome in sends):
        yield "quarantined records killed their operator; each may kill it three times again"


def summary_text(summary: dict[str, Any]) -> str:
    """The same for a person."""
    table = Table(title=f"{summary['selected']} of {summary['entries']} entries", box=None)
    table.add_column("verdict")
    table.add_column("entries", justify="right")
    table.add_column("")
    for verdict, count in summary["verdicts"].items():
        late = summary["late_by_s"] if verdict == Verdict.LATE else None
        span = f"; by {late['least']:.3f} to {late['most']:.3f} s" if late else ""
        table.add_row(verdict, str(count), (_MEANING[Verdict(verdict)] + span) if count else "")
    table.add_row("to be sent", str(summary["sends"]), "", style="bold")
    text = io.StringIO()
    Console(file=text, width=100).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    lines += map(_unknown_text, summary["unknown_versions"])
    lines += [f"skipped: {d['file']} line {d['line']}: {d['why']}" for d in summary["damaged"]]
    lines += [f"warning: {warning}" for warning in summary["warnings"]]
    return "\n".join(lines)


def _unknown_text(found: dict[str, Any]) -> str:
    more = ", ..." if found["entries"] > len(found["where"]) else ""
    return (
        f"skipped: {found['entries']} entries of the unknown schema version "
        f"{found['schema_version']} ({', '.join(found['where'])}{more}); "
        "use the release that wrote them"
    )


def entry_record(entry: Entry) -> dict[str, Any]:
    """An entry without its payload."""
    return {
        "dlq_id": name_of(entry),
        "root": root_of(entry),
        "schema_version": entry.schema_version,
        "operator": entry.operator,
        "error_kind": entry.error_kind,
        "error_message": entry.error_message,
        "rejected_at": _at_ms(entry.timestamp_unix_ms),
        "attempts": entry.attempts,
        "sensor": entry.sensor or None,
        "topic": entry.topic,
        "generation": entry.generation,
        "partition": entry.partition,
        "offset": entry.offset,
        "key": entry.key,
        "message_timestamp": _at_ms(entry.message_timestamp_ms),
        "log_id": entry.log_id,
        "log_position": entry.log_position,
        "catalogue": entry.catalogue or None,
        "payload_bytes": len(entry.original_payload),
    }


def entry_table(entries: Sequence[Entry]) -> str:
    """One entry a line, oldest first."""
    head = ("entry", "operator", "kind", "rejected at", "attempts", "offset", "sensor", "message")
    return columns(head, [
        (
            name_of(e)[:ID_CHARS], e.operator, e.error_kind, _at_ms(e.timestamp_unix_ms),
            e.attempts, f"{e.partition}:{e.offset}", e.sensor or None,
            " ".join(e.error_message.split()),
        )
        for e in entries
    ])  # fmt: skip


def payload_of(entry: Entry) -> Any:
    """The payload as JSON if it is some, else as text, what is no text escaped."""
    try:
        return json.loads(entry.original_payload)
    except (ValueError, RecursionError):
        return entry.original_payload.decode("utf-8", "backslashreplace")


def payload_text(entry: Entry) -> str:
    """The payload for a terminal: indented JSON, or text without control characters."""
    payload = payload_of(entry)
    if not isinstance(payload, str):
        return json.dumps(payload, indent=2)
    text = "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in payload)
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}... ({len(text)} characters)"


def sending_record(sending: Sending) -> dict[str, Any]:
    """A row of the ledger for programs."""
    done = sending.done_ns
    return {
        **sending._asdict(),
        "intent_ns": format_time(sending.intent_ns),
        "done_ns": None if done is None else format_time(done),
    }


def sending_table(sendings: Sequence[Sending]) -> str:
    """A sending a line, oldest first."""
    head = ("run", "entry", "root", "topic", "attempt", "expected", "sent at", "acknowledged")
    return columns(head, [
        (
            s.run, s.dlq_id[:ID_CHARS], s.root[:ID_CHARS], s.topic, s.attempts, s.expected,
            _at_ns(s.intent_ns), "unconfirmed" if s.done_ns is None else _at_ns(s.done_ns),
        )
        for s in sendings
    ])  # fmt: skip


def _at_ms(milliseconds: int) -> str:
    return _at_ns(milliseconds * 1_000_000)


def _at_ns(nanoseconds: int) -> str:
    """RFC 3339 to the millisecond; the number itself when it is no time we can write."""
    try:
        return f"{format_time(nanoseconds)[:23]}Z"
    except (OverflowError, ValueError):
        return f"{nanoseconds} ns"
