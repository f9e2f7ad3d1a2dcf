"""What the simulated disk loses and keeps, the remembered evaluations, and the fibers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operators.core import correlation, evaluation
from sda_pipeline.errors import StateCorrupt
from sda_pipeline.log.source_log import LogStart
from sda_pipeline.records.alert import Entry
from sda_pipeline.state.alert_log import AlertLog
from sda_pipeline.state.store import Changes, CorrelatorStore, Meta
from tests.log_frames import LOG_ID, SOURCE, fill
from tests.simulation import shortcuts
from tests.simulation.campaign import world_of
from tests.simulation.fibers import Fiber, Killed
from tests.simulation.mortal import Mortal
from tests.simulation.seams import simulated
from tests.simulation.sim_disk import Disk, SimSourceLog


def _opened(directory: Path) -> SimSourceLog:
    log = SimSourceLog.open(directory, SOURCE, LogStart(LOG_ID, 1))
    assert isinstance(log, SimSourceLog)
    return log


def test_a_power_loss_takes_only_what_is_not_synced_from_a_log(mortal: Mortal) -> None:
    ends = set()
    for number in range(20):
        directory = Disk.now.root / f"log-{number}"
        log = _opened(directory)
        fill(log, 2)
        header = log.read(2).header
        log.append(_next(header), bytes(log.read(2).payload), b"")
        Disk.now.power_loss()
        ends.add(_opened(directory).end)
    assert ends == {2, 3}, "the unsynced record is there or not; the synced ones always are"


def _next(header: Any) -> Any:
    return replace(header, position=header.position + 1)


def test_a_kill_tears_the_write_it_interrupts(mortal: Mortal) -> None:
    log = _opened(Disk.now.root / "log")
    fill(log, 2)
    header, payload = log.read(2).header, bytes(log.read(2).payload)
    mortal.deadly = {"log_write"}
    with pytest.raises(Killed):
        log.append(_next(header), payload, b"")
    assert _opened(Disk.now.root / "log").end == 2


def test_a_commit_that_died_in_its_sync_is_lost_with_the_power_unless_it_was_opened_since(
    mortal: Mortal,
) -> None:
    path, found = Disk.now.root / "alerts.sqlite", set()
    with simulated():
        for number in range(1, 30):
            before = AlertLog(path).position
            mortal.deadly = {"sqlite_commit"}
            log = AlertLog(path)
            with pytest.raises(Killed), log.transaction():
                log.add_entry(Entry(before + 1, 1, 1, b"[]"))
            mortal.deadly = set()
            synced = number % 3 == 0 and AlertLog(path).position == before + 1
            Disk.now.power_loss()
            after = AlertLog(path).position - before
            assert after == 1 or not synced
            found.add(after)
    assert found == {0, 1}


def test_an_lmdb_commit_that_died_is_there_or_not(mortal: Mortal) -> None:
    found = set()
    with simulated():
        for number in range(1, 30):
            store = CorrelatorStore(Disk.now.root / f"correlator-{number}")
            mortal.deadly = {"lmdb_commit"}
            with pytest.raises(Killed):
                store.commit(Changes(meta=Meta(epoch=3)), lambda: None)
            mortal.deadly = set()
            if number % 2:
                Disk.now.power_loss()
            found.add(CorrelatorStore(store.path).meta.epoch)
    assert found == {0, 3}


def test_a_damaged_environment_is_refused(mortal: Mortal) -> None:
    with simulated():
        store = CorrelatorStore(Disk.now.root / "correlator")
        (store.path / "data.mdb").write_bytes(b"damaged")
        with pytest.raises(StateCorrupt, match="magic"):
            CorrelatorStore(store.path)


# --- shortcuts and fibers -----------------------------------------------------------------------


def test_a_remembered_evaluation_is_the_one_that_would_be_computed() -> None:
    compared = []

    def both(encounters: Any, window: Any, *settings: Any) -> Any:
        fast = shortcuts.evaluate(encounters, window, *settings)
        slow = evaluation.evaluate(encounters, window, *settings)
        assert {k: _plain(v) for k, v in fast.items()} == {k: _plain(v) for k, v in slow.items()}
        compared.extend(value for value in slow.values() if value is not None)
        return fast

    with simulated(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(correlation, "evaluate", both)
        for seed in range(12):
            assert world_of(seed).run() == []
    assert len(compared) > 50


def _plain(found: Any) -> Any:
    """An evaluation as comparable values, arrays by their bytes."""
    if isinstance(found, np.ndarray):
        return found.tobytes()
    if hasattr(found, "__dataclass_fields__"):
        return [(name, _plain(getattr(found, name))) for name in found.__dataclass_fields__]
    return [_plain(item) for item in found] if isinstance(found, tuple | list) else found


def test_fibers_take_turns_and_die_where_they_stand() -> None:
    told: list[str] = []

    def body(name: str) -> None:
        try:
            for turn in range(3):
                told.append(f"{name}{turn}")
                fibers[name].pause()
        finally:
            told.append(f"{name} unwound")

    fibers = {name: Fiber(lambda name=name: body(name)) for name in "ab"}  # type: ignore[misc]
    for name in "aab":
        fibers[name].resume()
    fibers["a"].kill()
    assert told == ["a0", "a1", "b0", "a unwound"]
    assert isinstance(fibers["a"].error, Killed)
    while not fibers["b"].done:
        fibers["b"].resume()
    assert fibers["b"].error is None
    never = Fiber(lambda: told.append("never"))
    never.kill()
    assert never.done
    assert "never" not in told
