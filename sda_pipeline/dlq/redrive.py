"""What becomes of a DLQ entry that is re-injected: verdicts and order. Pure; sends nothing.

A record that is refused again comes back as another entry of the same root with one attempt more:
those are its *lives*, and only the newest is ever sent. What an entry's verdict rests on comes in
as ``Facts``; who finds them out is ``sda_pipeline/cli/reprocess``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from sda_pipeline.dlq.entry import Entry, dlq_id
from sda_pipeline.limits import REDRIVE_ATTEMPTS_MAX, SECOND_NS
from sda_pipeline.records.time_text import format_time
from sda_pipeline.vocabulary import ErrorKind

_MS_NS = 1_000_000
_MS_MAX = 1 << 42  # year 2109: beyond, ns do not fit into 64 bits
_IS_NAME = re.compile(r"[0-9a-f]{32}")


class Verdict(StrEnum):
    """What would happen to an entry."""

    REINJECT = "re-injected"  # sent, and judged like any other record
    LATE = "late"  # sent, and counted late: its event time is below the watermark
    REFUSED = "refused again"  # sent, and refused again, with one attempt more; then never late
    KNOWN = "known"  # taken or sent before; not sent without --force, absorbed with it
    CAME_BACK = "came back"  # it was sent and refused again: its newer life stands for it
    SKIPPED = "skipped"


class Sending(NamedTuple):
    """One message of one run. ``attempts`` as in its header; ``expected``: the verdict told.

    ``done_ns`` is None until the broker has acknowledged it.
    """

    id: int
    run: int
    dlq_id: str
    root: str
    topic: str
    attempts: int
    expected: str
    intent_ns: int
    done_ns: int | None


class Intent(NamedTuple):
    """What is about to be sent."""

    dlq_id: str
    root: str
    topic: str
    attempts: int
    expected: str


def name_of(entry: Entry) -> str:
    """Its ``dlq_id``; an entry without one of ours is named by its coordinates."""
    if _IS_NAME.fullmatch(entry.dlq_id):
        return entry.dlq_id
    return dlq_id(
        entry.operator, entry.topic, entry.generation, entry.partition, entry.offset,
        error_kind=entry.error_kind,
    )  # fmt: skip


def root_of(entry: Entry) -> str:
    """The name of the record's first life."""
    return entry.root if _IS_NAME.fullmatch(entry.root) else name_of(entry)


def is_key(text: str) -> bool:
    """Whether it is a key as our entries hold it: bytes as Latin-1."""
    return text.isascii() or max(text) <= "\xff"


def timestamp_of(entry: Entry) -> int:
    """The message's timestamp, ms; of an entry that has none, when it was refused."""
    return entry.message_timestamp_ms or entry.timestamp_unix_ms


class Life(NamedTuple):
    """One rejection of a record; the largest is its newest."""

    attempts: int
    at_ms: int
    name: str


class Lives:
    """The newest life of every record that came back. Feed it every entry, filtered or not."""

    def __init__(self) -> None:
        self._newest: dict[str, Life] = {}

    def note(self, entry: Entry) -> None:
        """Take an entry into account; first lives need no place here."""
        if entry.attempts:
            life = Life(entry.attempts, entry.timestamp_unix_ms, name_of(entry))
            root = root_of(entry)
            self._newest[root] = max(life, self._newest.get(root, life))

    def newer(self, entry: Entry) -> Life | None:
        """The record's newest life when that is not this one."""
        life = self._newest.get(root_of(entry))
        return None if life is None or life.name == name_of(entry) else life


@dataclass(frozen=True)
class Facts:
    """What is known of one entry besides itself. Times in ns."""

    topic: str  # where it would go; "" when nobody knows
    reader: str  # the source that reads that topic; "" when none does
    trial: bool = False  # the topic was named by the user: it needs no reader
    ended: bool = False  # that source reads no further (--end-of-input)
    event_ns: int | None = None  # None: it cannot be read
    unreadable: str = ""  # then: why this release refuses it again
    in_log: bool = False  # the reader has an observation of this object, pane and id
    edge_ns: int = 0  # below it, an event is late in the partition it would go to
    partition: int | None = None  # that one; None: nobody knows, it is taken to be the one it left
    sent: Sending | None = None  # its newest sending to that topic
    newer: Life | None = None
    same_inputs: bool = False  # the catalogue, sensors and physics it was judged by are in use


@dataclass(frozen=True)
class Outcome:
    """The verdict on one entry, in words too; ``sends`` says whether it is sent."""

    entry: Entry
    facts: Facts
    verdict: Verdict
    why: str
    sends: bool
    late_by_ns: int = 0

    @property
    def attempts(self) -> int:
        """What the header of its next sending says."""
        return self.entry.attempts + 1

    @property
    def unconfirmed(self) -> bool:
        """An earlier run was stopped between producing it and writing down that it was."""
        return self.facts.sent is not None and self.facts.sent.done_ns is None

    @property
    def moves(self) -> bool:
        """Whether its key leads to another partition than the one it was refused in."""
        to, reader = self.facts.partition, self.facts.reader
        return self.sends and bool(reader) and to is not None and to != self.entry.partition

    @property
    def settled(self) -> bool:
        """Unconfirmed, and there is proof that the broker had it."""
        facts = self.facts
        if facts.sent is None or facts.sent.done_ns is not None:
            return False
        back = facts.newer is not None and facts.newer.attempts >= facts.sent.attempts
        return back or _is_taken(self.entry, facts)

    @property
    def order(self) -> tuple[int, int, int]:
        """Sent in order of event time, one never makes another late."""
        entry, event_ns = self.entry, self.facts.event_ns
        at = timestamp_of(entry) * _MS_NS if event_ns is None else event_ns
        return at, entry.partition, entry.offset

    @property
    def intent(self) -> Intent:
        """Its line in the ledger."""
        entry = self.entry
        name, root = name_of(entry), root_of(entry)
        return Intent(name, root, self.facts.topic, self.attempts, str(self.verdict))


def decide(entry: Entry, facts: Facts, *, force: bool) -> Outcome:
    """The first rule that holds. ``force`` sends what is known, spent or quarantined all the same.

    Nothing makes it send an older life, what has no bytes, or where nobody reads.
    """
    rules = (
        (Verdict.CAME_BACK, _came_back(facts), False),
        (Verdict.SKIPPED, _hopeless(entry, facts), False),
        (Verdict.KNOWN, _known(entry, facts), force),
        (Verdict.SKIPPED, "" if force else _needs_force(entry), False),
    )
    for verdict, why, sends in rules:
        if why:
            return Outcome(entry, facts, verdict, why, sends)
    if again := _refused_again(entry, facts):  # a source asks its rules before the watermark
        return Outcome(entry, facts, Verdict.REFUSED, again, True)  # noqa: FBT003
    late_by = 0 if facts.event_ns is None else facts.edge_ns - facts.event_ns
    if facts.reader and late_by > 0:
        why = f"by {late_by / SECOND_NS:.3f} s"
        return Outcome(entry, facts, Verdict.LATE, why, True, late_by)  # noqa: FBT003
    return Outcome(entry, facts, Verdict.REINJECT, "", True)  # noqa: FBT003


def _came_back(facts: Facts) -> str:
    newer = facts.newer
    return "" if newer is None else f"refused again as {newer.name}, attempt {newer.attempts}"


def _is_taken(entry: Entry, facts: Facts) -> bool:
    """Whether the log shows that the pipeline has this observation.

    A quarantined one may be there from before: it is the correlator that skips its row.
    """
    return facts.in_log and entry.error_kind != ErrorKind.QUARANTINED


def _known(entry: Entry, facts: Facts) -> str:
    """Why a second copy would be a duplicate."""
    if _is_taken(entry, facts):
        return f"{facts.reader} has this observation"
    if facts.sent is None or facts.sent.done_ns is None:
        return ""
    return f"sent {format_time(facts.sent.done_ns)[:19]}Z in run {facts.sent.run}"


def _needs_force(entry: Entry) -> str:
    if entry.attempts >= REDRIVE_ATTEMPTS_MAX:
        return f"refused after {entry.attempts} re-injections: --force"
    if entry.error_kind == ErrorKind.QUARANTINED:
        return "it killed its operator and may again: --force"
    return ""


def _hopeless(entry: Entry, facts: Facts) -> str:
    """Why it cannot be sent at all; "" when it can."""
    if not facts.topic or not (facts.reader or facts.trial):
        return f"no source reads topic {facts.topic or '(unknown)'}: --target-topic"
    if facts.ended:
        return f"{facts.reader} has ended its finite input and reads no further"
    if not entry.original_payload:
        return "its bytes were not kept"
    if not is_key(entry.key):
        return "its key is not one of ours"
    if not 0 <= timestamp_of(entry) < _MS_MAX:
        return f"its message timestamp {timestamp_of(entry)} ms is no time"
    return ""


def _refused_again(entry: Entry, facts: Facts) -> str:
    """Why, as far as can be told beforehand; "" when it cannot."""
    if facts.unreadable:
        return facts.unreadable
    if facts.same_inputs and entry.error_kind == ErrorKind.VALIDATION_FAILED:
        return "catalogue, sensors and physics are those it was refused by"
    return ""


def plan(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes in the order in which they are told and sent."""
    return sorted(outcomes, key=lambda outcome: outcome.order)


def chunks(
    outcomes: Sequence[Outcome], messages_max: int, bytes_max: int
) -> Iterator[list[Outcome]]:
    """What is sent, cut into pieces of one topic each, in order; a large record comes alone."""
    chunk: list[Outcome] = []
    size = 0
    for outcome in outcomes:
        if not outcome.sends:
            continue
        more = len(outcome.entry.original_payload)
        full = len(chunk) >= messages_max or size + more > bytes_max
        if chunk and (full or chunk[0].facts.topic != outcome.facts.topic):
            yield chunk
            chunk, size = [], 0
        chunk.append(outcome)
        size += more
    if chunk:
        yield chunk
