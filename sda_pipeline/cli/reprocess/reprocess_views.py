"""Entries, verdicts and sendings as tables for people and as JSON for programs. No decisions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sda_pipeline.cli.reprocess.plain_text import plain
from sda_pipeline.dlq.entry import Entry
from sda_pipeline.dlq.redrive import Outcome, Sending, Verdict, name_of, root_of
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.time_text import format_time

ID_CHARS = 12  # of a dlq_id in tables; `show` takes any unambiguous beginning
TEXT_MAX = 4_000  # characters of a payload that is no JSON


def columns(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Left-aligned columns under their heads; ``-`` for None. Rich takes seconds for thousands."""
    shown = (["-" if cell is None else plain(str(cell)) for cell in row] for row in rows)
    cells = [[*map(str, head)], *shown]
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
        "partition": outcome.facts.partition,
        "late_by_s": outcome.late_by_ns / SECOND_NS if late else None,
        "refused_again": outcome.why if outcome.verdict is Verdict.REFUSED else None,
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
                o.why, "sent before, unconfirmed" if o.unconfirmed and o.sends else "",
            ])),
        )
        for o in outcomes
    ])  # fmt: skip


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
    text = plain(payload, keep="\n")
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
