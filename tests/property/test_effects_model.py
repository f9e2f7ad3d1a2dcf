"""Any history, any schedule of kills, re-deliveries and batch cuts: the ledger is the clean one."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from operators import outbox_input
from operators.core import effects
from operators.core.effects import Verdict
from operators.core.outbox import Place
from sda_pipeline.errors import StateCorrupt
from sda_pipeline.vocabulary import FAILPOINTS
from tests.unit.alert_rig import (
    LEVELS,
    Correlator,
    closes_of,
    history,
    reference_ledger,
    time_of,
)
from tests.unit.sink_rig import Chain, open_chain

NAMES = ("a1", "a2", "a3", "a4")
EFFECTS_AFTER = {  # a legal ledger, read off SPEC 5: what may follow what, per alert
    None: {"raise"},
    "raise": {"change", "confirm", "withdraw"},
    "change": {"change", "confirm", "withdraw"},
    "confirm": {"change", "confirm", "withdraw"},
    "withdraw": {"reinstate"},
    "reinstate": {"change", "confirm", "withdraw"},
}

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("level"), st.sampled_from(NAMES), st.sampled_from(LEVELS)),
        st.tuples(st.just("close"), st.integers(0, 5)),
        st.tuples(st.just("epoch"), st.sets(st.sampled_from(NAMES)), st.integers(0, 5)),
    ),
    max_size=25,
)
KILLS = st.sampled_from(
    [(name, point) for name in ("alert-sink", "subscriber") for point in FAILPOINTS[name]]
)
SCHEDULES = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), st.integers(1, 5)),
        st.tuples(st.just("kill"), KILLS, st.integers(1, 3)),
        st.tuples(st.just("run"), st.sampled_from(["alert-sink", "subscriber"])),
        st.tuples(st.just("resend")),
    ),
    max_size=12,
)


def _feed(chain: Chain, entries: list, count: int) -> None:
    chain.outbox += entries[len(chain.outbox) : len(chain.outbox) + count]
    chain.publish()


def _perform(chain: Chain, entries: list, schedule: list) -> None:
    for verb, *arguments in schedule:
        if verb == "feed":
            _feed(chain, entries, arguments[0])
        elif verb == "kill":
            (name, point), hit = arguments
            chain.life(name, (point, hit))
        elif verb == "run":
            chain.life(arguments[0])
        else:
            chain.resend()
    chain.outbox = entries
    chain.settle()


def _check(chain: Chain, entries: list) -> None:
    ledger = chain.ledger()
    assert ledger == reference_ledger(entries)
    assert all(n == 1 for n in Counter((e.alert_id, e.sequence) for e in ledger).values())
    assert all(n == 1 for n in Counter(e.alert_id for e in ledger if e.effect == "raise").values())
    last: dict[str, str] = {}
    for line in ledger:
        assert line.effect in EFFECTS_AFTER[last.get(line.alert_id)]
        last[line.alert_id] = line.effect
    standing = {line.alert_id: line for line in ledger}
    for name, record in chain.alerts().items():
        assert time_of(record["closes"]) == closes_of(name)
        active = name in standing and standing[name].effect != "withdraw"
        assert (record["action"] == "insert") is active
        if active:
            assert record["sequence"] == standing[name].sequence


def _perform_and_check(chain: Chain, entries: list, schedule: list) -> None:
    _perform(chain, entries, schedule)
    _check(chain, entries)


@settings(max_examples=60, deadline=None)
@given(OPERATIONS, SCHEDULES, st.integers(1, 4), st.sampled_from([2048, 65536]))
def test_any_schedule_gives_the_ledger_of_clean_delivery(
    operations: list, schedule: list, batch: int, capacity: int
) -> None:
    entries = history(operations).entries
    note(f"{len(entries)} entries")
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as root,
        open_chain(Path(root), capacity) as chain,
    ):
        patch.setattr(outbox_input, "BATCH_ENTRIES_MAX", batch)
        _perform_and_check(chain, entries, schedule)
        assert chain.rewinds == 0


def test_control_without_the_checks_a_kill_between_commit_and_release_is_seen() -> None:
    correlator = Correlator()
    correlator.level("a1", "RED")
    schedule = [("feed", 5), ("run", "alert-sink"), ("kill", ("subscriber", "after_commit"), 1)]
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as root,
        open_chain(Path(root)) as chain,
    ):
        patch.setattr(outbox_input, "place_of", lambda *_: Place.NEXT)
        patch.setattr(effects, "judge", lambda *_: Verdict.ACCEPTED)
        with pytest.raises((StateCorrupt, AssertionError)):
            _perform_and_check(chain, correlator.entries, schedule)
