"""The alert sink and the subscriber as shells: killed between every two steps, rewound, drained."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from operators import outbox_input
from sda_pipeline.limits import SEEN_SET_KEPT_NS
from sda_pipeline.ring.endpoints import Producer
from sda_pipeline.state import alert_log
from sda_pipeline.state.alert_log import read_alerts
from sda_pipeline.vocabulary import FAILPOINTS
from tests.unit.alert_rig import PANE, Correlator, at, reference_ledger, story
from tests.unit.sink_rig import SINK_EDGE, Chain, FakeWorker, Kill, open_chain

KILLS = [
    (name, (point, hit))
    for name in ("alert-sink", "subscriber")
    for point in FAILPOINTS[name]
    for hit in (1, 2, 3)
]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_input, "BATCH_ENTRIES_MAX", 3)


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    with open_chain(tmp_path) as chain:
        yield chain


def _check(chain: Chain) -> None:
    assert chain.ledger() == reference_ledger(chain.outbox)
    effects = [line.effect for line in chain.ledger()]
    assert set(effects) == {"raise", "change", "confirm", "withdraw", "reinstate"}
    last = {line.alert_id: line for line in chain.ledger()}
    for name, record in chain.alerts().items():
        assert record["sequence"] >= last[name].sequence
        assert record["action"] == ("insert" if last[name].level else "retract")


def test_a_clean_delivery_is_the_reference(chain: Chain) -> None:
    chain.outbox = story().entries
    chain.settle()
    _check(chain)
    assert chain.rewinds == 0
    finals = {r["alert_id"]: r for r in read_alerts(chain.alerts_path, final_only=True)}
    assert {name: record["level"] for name, record in finals.items()} == {"a1": "RED", "a2": "RED"}
    assert chain.alerts()["a3"]["reason"] == "not_confirmed"
    assert chain.alerts()["a3"]["supersedes"] == at(1)


@pytest.mark.parametrize(("name", "kill"), KILLS, ids=[f"{n}.{p}={h}" for n, (p, h) in KILLS])
@pytest.mark.parametrize("resend", [False, True])
def test_a_kill_between_two_steps_loses_and_repeats_nothing(
    chain: Chain, name: str, kill: Kill, resend: bool
) -> None:
    chain.outbox = story().entries
    chain.publish()
    if name == "subscriber":
        chain.life("alert-sink")
    killed = not chain.life(name, kill)
    assert chain.last is not None
    assert killed or chain.last.hits[kill[0]] < kill[1]
    assert killed or kill[1] > 1  # every point is passed at least once
    if resend:
        chain.resend()  # the correlator dies with it
    chain.settle()
    _check(chain)
    assert chain.rewinds == 0


def test_board_words_come_from_disk_before_ready(chain: Chain) -> None:
    chain.outbox = story().entries
    chain.settle()
    end = chain.outbox[-1].position
    chain.board.clear()
    for name, word in (("alert-sink", "sink_pos"), ("subscriber", "sub_pos")):
        chain.life(name)
        assert chain.board.get(word) == end


def test_a_gap_rewinds_and_the_correlator_sends_again(chain: Chain) -> None:
    chain.outbox = story().entries
    chain.publish()
    chain.life("alert-sink")
    producer = Producer(chain.rings[SINK_EDGE])
    skipped = Correlator(chain.outbox, n=len(chain.outbox) + 1, epoch=1)
    skipped.n = 500
    skipped.entries = []
    skipped.epoch = 2
    skipped.level("a8", "RED")
    entry = skipped.entries[0]
    producer.try_publish(entry.head(), (entry.body,), entry.crc())
    producer.close()
    assert not chain.life("alert-sink")
    assert chain.rewinds == 1
    chain.settle()
    _check(chain)


def test_a_small_ring_is_filled_again_and_again_and_never_overwritten(tmp_path: Path) -> None:
    with open_chain(tmp_path, capacity=2048) as chain:
        chain.outbox = story().entries
        chain.settle()
        _check(chain)


def _fill(chain: Chain) -> list[FakeWorker]:
    """Run the sink alone until it has stored everything; its lives."""
    lives = []
    while chain.published < len(chain.outbox):
        chain.publish()
        chain.life("alert-sink")
        assert chain.last is not None
        lives.append(chain.last)
    return lives


def test_drain_delivers_what_the_ring_takes_and_says_what_it_did_not(tmp_path: Path) -> None:
    with open_chain(tmp_path, capacity=2048) as chain:
        chain.outbox = story().entries
        (told,) = _fill(chain)[-1].said("drain_incomplete")
        assert told["sent"] < told["position"] == chain.outbox[-1].position
        chain.settle()
        _check(chain)


def test_what_is_not_confirmed_in_time_is_marked_once(tmp_path: Path) -> None:
    with open_chain(tmp_path, capacity=2048) as chain:
        chain.outbox = story().entries
        lives = [*_fill(chain), *_fill(chain)]
        told = [fields for life in lives for fields in life.said("alerts_overdue")]
        assert told
        with sqlite3.connect(chain.alerts_path) as db:
            (marked,) = db.execute("SELECT count(*) FROM records WHERE overdue = 1").fetchone()
        db.close()
        assert sum(fields["records"] for fields in told) == marked > 0
        chain.life("alert-sink")
        assert chain.last is not None
        assert chain.last.said("alerts_overdue") == []  # the mark is in the table


def _lose_subscriber(chain: Chain, more: Correlator) -> None:
    """The subscriber's store goes while the sink runs on and sends one more alert."""
    more.level("a99", "RED")
    chain.outbox = more.entries
    chain.publish()
    chain.life("alert-sink")
    for path in chain.topology.subscriber.iterdir():
        path.unlink()
    assert not chain.life("subscriber")  # an empty store does not start in the middle by itself
    assert chain.rewinds == 1
    chain.settle()
    assert chain.rewinds == 1


def test_a_subscriber_that_lost_its_store_gets_all_the_sink_holds(chain: Chain) -> None:
    correlator = story()
    chain.outbox = correlator.entries
    chain.settle()
    _lose_subscriber(chain, correlator)
    assert chain.ledger() == reference_ledger(chain.outbox)


def test_after_pruning_the_sink_announces_where_it_begins(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_log, "ENTRIES_KEPT", 2)
    monkeypatch.setattr(alert_log, "PRUNE_EVERY", 1)
    correlator = Correlator()
    for name in ("a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8"):
        correlator.level(name, "RED")
        chain.outbox = correlator.entries
        chain.settle()
    _lose_subscriber(chain, correlator)
    assert [line.alert_id for line in chain.ledger()] == ["a7", "a8", "a99"]


def test_a_sink_that_lost_its_store_waits_for_a_new_epoch(chain: Chain) -> None:
    correlator = Correlator()
    for name in ("a1", "a2"):
        correlator.level(name, "RED")
    chain.outbox = correlator.entries
    chain.settle()
    for path in chain.topology.state.iterdir():
        path.unlink()
    chain.board.set("sink_pos", 0)
    correlator.level("a3", "RED")
    held, chain.outbox = chain.outbox, correlator.entries[2:]  # the rest is deleted: it was stored
    chain.published = 0
    chain.publish()
    chain.life("alert-sink")
    assert chain.rewinds == 1
    correlator.new_epoch([], 0)  # what the correlator does about it
    chain.outbox = [entry for entry in correlator.entries if entry.position > at(0, epoch=2)]
    chain.rewind("alert-sink")
    chain.settle()
    assert chain.ledger() == reference_ledger([*held[:2], *chain.outbox])


def test_what_is_thirty_days_late_is_refused_and_counted(chain: Chain) -> None:
    correlator = Correlator()
    correlator.level("a1", "RED")
    far = 1 + SEEN_SET_KEPT_NS // PANE  # panes
    correlator.level(f"a{far + 1}", "RED")
    correlator.level("a2", "RED")  # closes exactly 30 days before
    correlator.level("a1", "YELLOW")  # a pane more
    chain.outbox = correlator.entries
    chain.publish()
    for name in ("alert-sink", "subscriber"):
        chain.life(name)
        assert chain.last is not None
        assert chain.last.said("counts") == [{"duplicates": 0, "refused": 1}]
    assert [line.alert_id for line in chain.ledger()] == ["a1", f"a{far + 1}", "a2"]
