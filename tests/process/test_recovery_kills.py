"""SIGKILL to the whole tree, again and again, in every stage of its own recovery.

The stages are the code's own list, RECOVERY_FAILPOINTS: after each step that changes a file, on
each rung of the ladder, and right before READY, of every operator. One state goes through all of
them, so that every recovery also meets what the one before it left unfinished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from operators.core.positions import SourcePosition
from sda_pipeline.log.source_log import LogStart, SourceLog
from sda_pipeline.state.recovery import CORRELATOR
from sda_pipeline.state.store import CorrelatorStore
from sda_pipeline.vocabulary import RECOVERY_FAILPOINTS
from tests.process.site import Site, kill_tree
from tests.process.state_rig import (
    SOURCES,
    check,
    copy_of,
    damage_newest_snapshot,
    damage_stored_value,
    flip,
    hangs,
    remove,
    second_snapshot,
    told,
)
from tests.process.test_crash import KIND_OF, rewinds
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process

STAGES = {
    f"{operator}.{point}"
    for operator, kind in KIND_OF.items()
    for point in RECOVERY_FAILPOINTS[kind]
}


def nothing(_site: Site) -> None:
    """No damage beyond what the kill before has left."""


def torn_dlq(site: Site) -> None:
    """A line that a kill has cut."""
    newest = max((site.state / "dlq").glob("*.jsonl"))
    with newest.open("ab") as file:
        file.write(b'{"schema_version":1,"operator":"rad')


def damaged_store(site: Site) -> None:
    """The LMDB and the newest of two snapshots: what serves is the older one."""
    second_snapshot(site)
    damage_newest_snapshot(site)
    damage_stored_value(site)


def log_too_late(*sources: str) -> Callable[[Site], None]:
    """Logs that begin after the next position the correlator wants."""

    def replace(site: Site) -> None:
        for source in sources:
            directory = site.state / "log" / source
            wanted = applied(site, source) + 1
            remove(directory)
            SourceLog.open(directory, SOURCES.index(source), LogStart(4711, wanted + 1)).close()

    return replace


def applied(site: Site, source: str) -> int:
    """Up to where the correlator's store has a source's log."""
    store = CorrelatorStore(site.state / CORRELATOR, readonly=True)
    try:
        data = store.positions().get(source)
    finally:
        store.close()
    return msgspec.msgpack.decode(data, type=SourcePosition).position if data else 0


REPUBLISHED = [f"{source}.recovery_republished" for source in SOURCES]
# What is done to the state first, and where which operators hang when the tree is killed. No more
# than two at once: so many does a supervisor start together on a small machine.
ROUNDS: list[tuple[Callable[[Site], None], Sequence[str]]] = [
    (nothing, ["correlator.inside_commit", *REPUBLISHED]),
    (torn_dlq, ["subscriber.recovery_open", "dlq-sink.recovery_cut"]),
    (nothing, ["subscriber.recovered", "dlq-sink.recovery_synced"]),
    (nothing, ["alert-sink.recovery_open", "dlq-sink.recovered"]),
    (nothing, ["alert-sink.recovered", "prioritize.recovered"]),
    (damaged_store, ["correlator.recovery_snapshot_aside", "normalize.recovered"]),
    (nothing, ["correlator.recovery_copied"]),
    (nothing, ["correlator.recovery_moved_aside"]),
    (nothing, ["correlator.recovery_installed"]),
    (nothing, ["correlator.recovery_epoch"]),
    (nothing, ["correlator.recovered"]),
    (nothing, ["replicator.recovered", "isl.recovery_log_repaired"]),
    (nothing, ["radar.recovery_log_repaired", "optical.recovery_log_repaired"]),
    (log_too_late("radar", "optical"), ["radar.recovery_log_aside", "optical.recovery_log_aside"]),
    (log_too_late("isl"), ["isl.recovery_log_aside", "radar.recovery_log_open"]),
    (nothing, ["optical.recovery_log_open", "isl.recovery_log_open"]),
    (nothing, ["radar.recovered", "optical.recovered"]),
    (nothing, ["isl.recovered"]),
]


def damaged_dlq(site: Site) -> None:
    """One bit of a line in its middle."""
    newest = max((site.state / "dlq").glob("*.jsonl"))
    flip(newest, newest.stat().st_size // 2)


# The damaged line is repaired from the source's log, which is set aside above.
REPAIRS: list[tuple[Callable[[Site], None], Sequence[str]]] = [
    (damaged_dlq, ["dlq-sink.recovery_damage_aside"]),
    (nothing, ["dlq-sink.recovery_damage_marks"]),
    (nothing, ["dlq-sink.recovery_damage_gone"]),
]


def test_every_stage_comes_up_once() -> None:
    met = [stage for _, stages in [*ROUNDS, *REPAIRS] for stage in stages]
    assert sorted(met) == sorted({*STAGES, "correlator.inside_commit"})


def test_the_tree_is_killed_in_every_stage_of_its_recovery(
    interrupted: Site, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    site = copy_of(interrupted, tmp_path / "site")
    for damage, stages in ROUNDS:
        damage(site)
        kill_in(site, stages)
    site.finish()
    check(site, undisturbed)
    assert rewinds(site) == 0
    (raised,) = told(site, "correlator", "epoch_raised")
    assert raised["why"].startswith("restored from snapshot")
    rungs = [line["rung"] for line in told(site, "correlator", "recovery_rung_failed")]
    assert rungs == ["local", "snapshot", "local", "local", "local"]
    assert (site.state / "correlator.aside-1").is_dir()
    assert all((site.state / "log" / f"{source}.aside-1").is_dir() for source in SOURCES)


def test_the_tree_is_killed_between_the_steps_of_a_repair_of_the_dlq(
    interrupted: Site, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    site = copy_of(interrupted, tmp_path / "site")
    for damage, stages in REPAIRS:
        damage(site)
        kill_in(site, stages)
    site.finish()
    check(site, undisturbed)
    assert [*(site.state / "dlq").glob("*.damaged-*")]


def kill_in(site: Site, stages: Sequence[str]) -> None:
    """Start, and SIGKILL to all as soon as these operators stand in these stages."""
    points = ",".join(f"{stage}=1:hang" for stage in stages)
    print(f"SDA_FAILPOINTS='{points}'")
    operators = [stage.partition(".")[0] for stage in stages]
    process = site.start("--end-of-input", failpoints=points)
    try:
        wait_until(lambda: all(hangs(site, name) for name in operators), site.story)
    finally:
        kill_tree(process)
    wait_until(lambda: not site.survivors(), site.story)
