"""The pure core of re-injection: filters, verdicts, lives, order, chunks."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sda_pipeline.dlq.entry import Entry
from sda_pipeline.dlq.filters import Filters
from sda_pipeline.dlq.redrive import (
    Facts,
    Lives,
    Outcome,
    Sending,
    Verdict,
    chunks,
    decide,
    name_of,
    plan,
    root_of,
    timestamp_of,
)
from sda_pipeline.vocabulary import ErrorKind
from tests.unit.redrive_rig import T0, TOPIC, came_back, entry

FACTS = Facts(TOPIC, "radar", event_ns=T0, edge_ns=T0)
SENT = Sending(1, 3, "x", "x", TOPIC, 1, "re-injected", T0, T0 + 1)
OPEN = SENT._replace(done_ns=None)
S = 10**9


def verdict(found: Entry, facts: Facts, *, force: bool = False) -> tuple[Verdict, bool]:
    outcome = decide(found, facts, force=force)
    return outcome.verdict, outcome.sends


LIVES = Lives()
LIVES.note(came_back(entry(1), 50))
NEWER = LIVES.newer(entry(1))
CASES = {
    "plain": (entry(1), FACTS, Verdict.REINJECT, True, True),
    "late": (entry(1), replace(FACTS, edge_ns=T0 + 1), Verdict.LATE, True, True),
    "nobody reads": (entry(1), replace(FACTS, reader=""), Verdict.SKIPPED, False, False),
    "no topic": (entry(1), replace(FACTS, topic="", trial=True), Verdict.SKIPPED, False, False),
    "a trial": (
        entry(1), replace(FACTS, reader="", trial=True, edge_ns=T0 + S), Verdict.REINJECT, True,
        True),
    "ended": (entry(1), replace(FACTS, ended=True), Verdict.SKIPPED, False, False),
    "no bytes": (entry(1, original_payload=b""), FACTS, Verdict.SKIPPED, False, False),
    "in the log": (
        entry(1), replace(FACTS, in_log=True, edge_ns=T0 + S), Verdict.KNOWN, False, True),
    "sent": (entry(1), replace(FACTS, sent=SENT), Verdict.KNOWN, False, True),
    "unconfirmed": (entry(1), replace(FACTS, sent=OPEN), Verdict.REINJECT, True, True),
    "came back": (entry(1), replace(FACTS, newer=NEWER), Verdict.CAME_BACK, False, False),
    "twice refused": (entry(1, attempts=2), FACTS, Verdict.REINJECT, True, True),
    "spent": (entry(1, attempts=3), FACTS, Verdict.SKIPPED, False, None),
    "quarantined": (entry(1, error_kind="Quarantined"), FACTS, Verdict.SKIPPED, False, None),
    "quarantined by the correlator": (
        entry(1, error_kind="Quarantined"), replace(FACTS, in_log=True), Verdict.SKIPPED, False,
        None),
    "unreadable": (
        entry(1), replace(FACTS, event_ns=None, unreadable="not JSON"), Verdict.REFUSED, True,
        True),
    "late, and not cured": (
        entry(1), replace(FACTS, same_inputs=True, edge_ns=T0 + S), Verdict.REFUSED, True, True),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_verdicts(case: str) -> None:
    found, facts, expected, sends, forced = CASES[case]
    assert verdict(found, facts) == (expected, sends)
    if forced is None:  # only --force makes it like any other
        assert verdict(found, facts, force=True) == (Verdict.REINJECT, True)
    else:
        assert verdict(found, facts, force=True) == (expected, forced)


def test_every_verdict_but_the_plain_one_says_why() -> None:
    for found, facts, expected, _, _ in CASES.values():
        outcome = decide(found, facts, force=False)
        assert bool(outcome.why) == (expected is not Verdict.REINJECT)


def test_late_says_by_how_much_and_the_edge_itself_is_not_late() -> None:
    late = decide(entry(1), replace(FACTS, edge_ns=T0 + 1_500_000_000), force=False)
    assert (late.late_by_ns, late.why) == (1_500_000_000, "by 1.500 s")
    assert decide(entry(1), FACTS, force=False).late_by_ns == 0


def test_what_will_be_refused_again_is_told() -> None:
    def why(found: Entry, facts: Facts) -> str:
        outcome = decide(found, facts, force=False)
        return outcome.why if outcome.verdict is Verdict.REFUSED else ""

    same = replace(FACTS, same_inputs=True)
    assert "those it was refused by" in why(entry(1), same)
    assert not why(entry(1, error_kind="Deserialization"), same)
    unreadable = replace(FACTS, event_ns=None, unreadable="not JSON")
    assert why(entry(1), unreadable) == "not JSON"
    assert not why(entry(1), replace(unreadable, sent=SENT)), "not sent"


def test_what_is_refused_again_is_never_called_late() -> None:
    """A source asks its rules first; the ledger keeps what was expected."""
    outcome = decide(entry(1), replace(FACTS, same_inputs=True, edge_ns=T0 + S), force=False)
    assert (outcome.late_by_ns, outcome.sends) == (0, True)
    assert outcome.intent.expected == "refused again"


@pytest.mark.parametrize(
    ("facts", "settled"),
    [
        (replace(FACTS, sent=OPEN), False),
        (replace(FACTS, sent=OPEN, in_log=True), True),
        (replace(FACTS, sent=OPEN, newer=NEWER), True),
        (replace(FACTS, sent=OPEN._replace(attempts=2), newer=NEWER), False),
        (replace(FACTS, sent=SENT, in_log=True), False),
        (replace(FACTS, in_log=True), False),
    ],
)
def test_an_open_sending_is_settled_by_proof_only(facts: Facts, settled: bool) -> None:
    assert decide(entry(1), facts, force=False).settled is settled


def test_headers_carry_root_and_attempt() -> None:
    first = entry(1)
    again = came_back(first, 50)
    assert decide(first, FACTS, force=False).intent[:4] == (first.dlq_id, first.dlq_id, TOPIC, 1)
    assert decide(again, FACTS, force=False).intent[:4] == (again.dlq_id, first.dlq_id, TOPIC, 2)


def test_version_one_without_a_name_is_named_by_its_coordinates() -> None:
    bare = msgspec.structs.replace(entry(1), dlq_id="", root="")
    assert name_of(bare) == entry(1).dlq_id
    assert decide(bare, FACTS, force=False).intent[:2] == (name_of(bare), name_of(bare))


@pytest.mark.parametrize(
    "changes",
    [{"key": "\u20ac"}, {"message_timestamp_ms": -1}, {"message_timestamp_ms": 1 << 63}],
)
def test_a_line_of_somebody_else_is_never_a_crash(changes: dict[str, object]) -> None:
    outcome = decide(entry(1, **changes), FACTS, force=True)
    assert (outcome.verdict, outcome.sends) == (Verdict.SKIPPED, False)
    assert outcome.why


def test_foreign_names_are_replaced_and_a_missing_timestamp_is_that_of_the_rejection() -> None:
    odd = entry(1, dlq_id="\u00e9", root="nobody", message_timestamp_ms=0)
    assert name_of(odd) == root_of(odd) == entry(1).dlq_id
    assert timestamp_of(odd) == odd.timestamp_unix_ms


ENTRIES = st.builds(
    entry,
    st.integers(0, 50),
    error_kind=st.sampled_from([str(kind) for kind in ErrorKind]),
    operator=st.sampled_from(["radar", "optical", "isl"]),
    attempts=st.integers(0, 4),
    partition=st.integers(0, 2),
)
NAMES = st.frozensets(st.sampled_from(["radar", "isl"]))
KINDS = st.frozensets(st.sampled_from(["Deserialization", "ValidationFailed"]))
TIMES = st.none() | st.integers(T0, T0 + 50 * S)


@given(ENTRIES, KINDS, NAMES, TIMES, TIMES)
def test_filters_combine(
    found: Entry, kinds: frozenset[str], names: frozenset[str], since: int | None, until: int | None
) -> None:
    alone = [
        Filters(kinds=kinds), Filters(operators=names), Filters(since_ns=since),
        Filters(until_ns=until),
    ]  # fmt: skip
    both = Filters(kinds, names, since, until)
    assert both.match(found) == all(part.match(found) for part in alone)
    at = found.timestamp_unix_ms * 1_000_000
    assert alone[0].match(found) == (not kinds or found.error_kind in kinds)
    assert alone[1].match(found) == (not names or found.operator in names)
    assert alone[2].match(found) == (since is None or since <= at)
    assert alone[3].match(found) == (until is None or at < until)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=20), st.randoms())
def test_only_the_newest_life_of_a_record_stands(
    later: list[tuple[int, int]], chance: object
) -> None:
    """Whatever order the entries come in, and if a kill made two of one attempt."""
    firsts = [entry(number) for number in range(4)]
    again = [came_back(firsts[of], 100 + k, attempts) for k, (of, attempts) in enumerate(later)]
    every = [*firsts, *again]
    chance.shuffle(every)  # type: ignore[attr-defined]
    lives = Lives()
    for found in every:
        lives.note(found)
    for first in firsts:
        mine = [found for found in every if found.root == first.root]
        standing = [found for found in mine if lives.newer(found) is None]
        newest = max(mine, key=lambda e: (e.attempts, e.timestamp_unix_ms, e.dlq_id))
        assert standing == [newest]


OUTCOMES = st.lists(
    st.builds(
        lambda found, event, topic, known: decide(
            found, Facts(topic, "radar", event_ns=event, in_log=known), force=False
        ),
        ENTRIES, TIMES, st.sampled_from(["a", "b"]), st.booleans(),
    ),
    max_size=30,
)  # fmt: skip


@given(OUTCOMES, st.integers(1, 6), st.integers(1, 1500))
def test_chunks_are_all_that_is_sent_in_order_of_event_time(
    outcomes: list[Outcome], messages: int, size: int
) -> None:
    planned = plan(outcomes)
    times = [outcome.facts.event_ns for outcome in planned if outcome.facts.event_ns is not None]
    if len(times) == len(planned):
        assert times == sorted(times)
    found = [*chunks(planned, messages, size)]
    assert [o for chunk in found for o in chunk] == [o for o in planned if o.sends]
    for chunk in found:
        assert len({outcome.facts.topic for outcome in chunk}) == 1
        assert 1 <= len(chunk) <= messages
        assert len(chunk) == 1 or sum(len(o.entry.original_payload) for o in chunk) <= size


@given(st.lists(st.integers(0, 100), min_size=2, max_size=20), st.integers(0, 60))
def test_sent_in_this_order_no_record_makes_another_late(times: list[int], lateness: int) -> None:
    """Lateness as the source judges it: what was told before the first one still holds."""
    edge = 50
    outcomes = plan(
        decide(entry(k), replace(FACTS, event_ns=t, edge_ns=edge), force=False)
        for k, t in enumerate(times)
    )
    mark = edge
    for outcome in outcomes:
        t = outcome.facts.event_ns
        assert t is not None
        assert (t < mark) == (outcome.verdict is Verdict.LATE)
        if t >= mark:
            mark = max(mark, t - lateness)
    assert all(a.order <= b.order for a, b in pairwise(outcomes))
