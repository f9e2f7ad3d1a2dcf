"""The simulation's stores and rings against the real ones. Not its losses.

One random history goes to both; whatever can be asked of them afterwards must be answered alike.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sda_pipeline.clock import ManualClock
from sda_pipeline.errors import StateCorrupt
from sda_pipeline.records.alert import Entry
from sda_pipeline.ring import memory
from sda_pipeline.ring.endpoints import Consumer, Producer
from sda_pipeline.state import alert_log, subscriber_store
from sda_pipeline.state.alert_log import AlertLog
from sda_pipeline.state.alert_state import Action, Change, State, Stored
from sda_pipeline.state.store import Changes, CorrelatorStore, Meta
from sda_pipeline.state.subscriber_store import SubscriberStore
from sda_pipeline.vocabulary import Effect
from tests.simulation.dice import Dice
from tests.simulation.fibers import Killed
from tests.simulation.mortal import Mortal
from tests.simulation.seams import simulated
from tests.simulation.sim_disk import Disk

HISTORIES = range(8)


def both_ways(history: Callable[[Path, Dice], Any], seed: int, root: Path) -> None:
    """The same history on the real thing and on the double, told alike."""
    real = history(root / "real", Dice(seed))
    with simulated():
        double = history(Disk.now.root / "double", Dice(seed))
    assert double == real


# --- the correlator's store ---------------------------------------------------------------------


def _changes(dice: Dice, number: int) -> Changes:
    entries = [Entry(number * 10 + k, 1, 1, bytes([dice.below(256)])) for k in range(dice.below(4))]
    names = ["a", "b", "c", "d"]
    return Changes(
        rows=[((dice.pick(["radar", "isl"]), number), bytes([dice.below(256)]) * 9)],
        rows_gone=[(dice.pick(["radar", "isl"]), dice.below(number + 1))],
        positions={dice.pick(["radar", "isl"]): bytes([dice.below(256)])},
        alerts={dice.pick(names): bytes([dice.below(256)])},
        alerts_gone=[dice.pick(names)],
        outbox=entries,
        outbox_gone_through=dice.pick([0, number * 10 - 15]) if number > 1 else 0,
        meta=Meta(epoch=1, outbox_end=number),
    )


def _told_by(store: CorrelatorStore) -> list[Any]:
    store.check_values()
    return [
        [*store.rows()], store.positions(), store.alerts(), store.outbox(), store.meta, store.empty,
    ]  # fmt: skip


def _correlator_history(path: Path, dice: Dice) -> list[Any]:
    told: list[Any] = []
    store = CorrelatorStore(path)
    told.append(_told_by(store))
    for number in range(1, 12):
        if dice.chance(0.2):
            store.close()
            store = CorrelatorStore(path)
        killed = dice.chance(0.3)
        try:
            store.commit(_changes(dice, number), _die if killed else lambda: None)
        except Killed:
            assert killed
            store.close()
            store = CorrelatorStore(path)
        told.append(_told_by(store))
    copy = path.parent / "copy.snap"
    with copy.open("wb") as file:
        store.env.copyfd(file.fileno(), compact=True)
    for _ in range(2):
        snapshot = CorrelatorStore(copy, readonly=True, single_file=True)
        told.append(_told_by(snapshot))
        snapshot.close()
    assert not store.replaced
    path.rename(path.with_name("aside"))
    assert store.replaced
    store.close()
    return told


def _die() -> None:
    raise Killed


@pytest.mark.parametrize("seed", HISTORIES)
def test_correlator_store(seed: int, mortal: Mortal, tmp_path: Path) -> None:
    both_ways(_correlator_history, seed, tmp_path)


# --- sink and subscriber ------------------------------------------------------------------------


def _change(dice: Dice, sequence: int) -> Change:
    level = dice.pick([None, "RED", "YELLOW"])
    alert = dice.pick(["a", "b", "c"])
    return Change(alert, sequence, level, dice.chance(0.2), 1000 * ord(alert), None)


def _sink_history(path: Path, dice: Dice) -> list[Any]:
    told: list[Any] = []
    file = path / "alerts.sqlite"
    log = AlertLog(file)
    for number in range(1, 20):
        if dice.chance(0.2):
            log.close()
            log = AlertLog(file)
        spoiled = dice.pick([None, None, "kill", "twice"])
        try:
            with log.transaction():
                change = _change(dice, number)
                body = b'{"sequence":%d,"sat1":1,"sat2":2,"closes":"x"}' % number
                log.add_entry(Entry(number, 1, 1, b"[%b]" % body))
                log.add_records(change, number, [body])
                if dice.chance(0.3):
                    for alert, stored, old in log.open_before(1000 * 98):
                        new = Stored(State.WITHDRAWN, stored.sequence + 50, None, True, 97_000)
                        log.add_withdrawal(alert, new, number, old, reason="r")
                if spoiled == "twice":
                    log.add_entry(Entry(number, 1, 1, b"again"))
                if spoiled == "kill":
                    raise Killed
        except (Killed, StateCorrupt) as error:
            told.append(type(error).__name__)
        told += [log.position, log.newest_closes_ns, log.recent_keys(9), log.entries_above(0, 99)]
        told += [log.stored(alert) for alert in ("a", "b", "z")]
        told.append(log.mark_overdue(0, dice.below(number)))
    log.close()
    return [*told, [*alert_log.read_alerts(file)]]


def _subscriber_history(path: Path, dice: Dice) -> list[Any]:
    told: list[Any] = []
    file = path / "subscriber.sqlite"
    store = SubscriberStore(file)
    for number in range(1, 20):
        if dice.chance(0.2):
            store.close()
            store = SubscriberStore(file)
        spoiled = dice.chance(0.2)
        try:
            with store.transaction():
                change = _change(dice, number)
                state = State.ACTIVE if change.level else State.WITHDRAWN
                new = Stored(state, number, change.level, change.final, change.closes_ns)
                store.put(change.alert_id, new, b"{}")
                effect = dice.pick([Effect.RAISE, Effect.CONFIRM])  # a second raise is refused
                store.act(Action(change.alert_id, number, effect, "RED", False, number, 5, None))
                store.position = number
                if spoiled:
                    raise Killed
        except (Killed, StateCorrupt) as error:
            told.append(type(error).__name__)
        told += [store.position, store.newest_closes_ns, store.open_before(98_000)]
        told += [store.stored(alert) for alert in ("a", "b", "z")]
    store.close()
    return [*told, [*subscriber_store.read_effects(file)]]


@pytest.mark.parametrize("seed", HISTORIES)
def test_alert_log(seed: int, mortal: Mortal, tmp_path: Path) -> None:
    both_ways(_sink_history, seed, tmp_path)


@pytest.mark.parametrize("seed", HISTORIES)
def test_subscriber_store(seed: int, mortal: Mortal, tmp_path: Path) -> None:
    both_ways(_subscriber_history, seed, tmp_path)


# --- rings --------------------------------------------------------------------------------------


def _ring_history(_path: Path, dice: Dice) -> list[Any]:
    told: list[Any] = []
    fds = memory.create_ring("test", 1024)
    producer, consumer = Producer(fds), Consumer(fds, ManualClock())
    slots: list[Any] = []
    for number in range(120):
        what = dice.pick(["publish", "publish", "read", "release", "restart"])
        if what == "publish":
            payload = bytes([number]) * dice.below(200)
            told.append(producer.try_publish(b"head", (payload[:5], payload[5:]), number))
        elif what == "read" and (slot := consumer.read()) is not None:
            told.append((bytes(slot.head), bytes(slot.payload), slot.payload_crc, slot.end))
            slots.append(slot.end)
        elif what == "release" and slots:
            consumer.release(slots[-1])
            slots.clear()
        elif what == "restart":
            producer, consumer = Producer(fds), Consumer(fds, ManualClock())
            slots.clear()
        told += [producer.occupied(), consumer.empty()]
    memory.drain(fds.data)
    memory.close_ring(fds)
    return told


@pytest.mark.parametrize("seed", HISTORIES)
def test_ring_memory(seed: int, mortal: Mortal, tmp_path: Path) -> None:
    both_ways(_ring_history, seed, tmp_path)
