"""Negative controls of sink and subscriber: each rule broken on purpose is seen to matter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from operators import alert_sink, outbox_input
from operators.core import effects
from operators.core.effects import Verdict
from operators.core.outbox import Place
from sda_pipeline.errors import Rewind, StateCorrupt
from sda_pipeline.ring.endpoints import Consumer, Producer
from tests.unit.alert_rig import reference_ledger, story
from tests.unit.sink_rig import SINK_EDGE, Chain, open_chain


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    monkeypatch.setattr(outbox_input, "BATCH_ENTRIES_MAX", 3)
    with open_chain(tmp_path) as chain:
        chain.outbox = story().entries
        yield chain


def test_control_release_before_commit_loses(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    read = outbox_input.OutboxInput.read

    def eager(self: outbox_input.OutboxInput, position: int) -> outbox_input.Batch:
        batch = read(self, position)
        if batch.end is not None:
            self.ring.release(batch.end)
        return batch

    chain.publish()
    with monkeypatch.context() as patch:
        patch.setattr(outbox_input.OutboxInput, "read", eager)
        assert not chain.life("alert-sink", ("after_dedup", 1))
    chain.settle()
    assert chain.rewinds > 0  # only the position check saves it: what was released is a gap


def test_control_without_position_and_sequence_checks_the_ledger_refuses_the_repeat(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.publish()
    chain.life("alert-sink")
    monkeypatch.setattr(outbox_input, "place_of", lambda *_: Place.NEXT)
    monkeypatch.setattr(effects, "judge", lambda *_: Verdict.ACCEPTED)
    chain.life("subscriber", ("after_commit", 2))
    with pytest.raises(StateCorrupt, match="UNIQUE"):
        chain.life("subscriber")


@pytest.mark.parametrize("check", ["position", "sequence"])
def test_either_check_alone_still_protects(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    if check == "sequence":
        monkeypatch.setattr(outbox_input, "place_of", lambda *_: Place.NEXT)
    else:
        monkeypatch.setattr(effects, "judge", lambda *_: Verdict.ACCEPTED)
    chain.publish()
    chain.life("alert-sink")
    chain.life("subscriber", ("after_commit", 2))
    chain.life("subscriber")
    assert chain.ledger() == reference_ledger(chain.outbox)


def test_control_emission_before_commit_is_seen(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def emitting(self: alert_sink._Loop, batch: outbox_input.Batch, _: set[int]) -> None:
        for item in batch.items:
            self.put(item.entry)

    chain.publish()
    with monkeypatch.context() as patch:
        patch.setattr(alert_sink._Loop, "store", emitting)
        assert not chain.life("alert-sink", ("inside_commit", 1))
    chain.life("subscriber")
    assert chain.board.get("sub_pos") > chain.board.get("sink_pos")  # the audit's order is broken


def test_a_flipped_payload_rewinds(chain: Chain) -> None:
    producer = Producer(chain.rings[SINK_EDGE])
    entry = chain.outbox[0]
    producer.try_publish(entry.head(), (entry.body[:-1] + b" ",), entry.crc())
    producer.close()
    consumer = Consumer(chain.rings[SINK_EDGE])
    with pytest.raises(Rewind, match="CRC"):
        outbox_input.OutboxInput(consumer).read(0)
    consumer.close()
