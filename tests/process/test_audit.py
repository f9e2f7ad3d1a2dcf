"""``audit`` proves it: it finds nothing in what a pipeline leaves, and every lie, with its place.

The lies are forged with valid CRCs. A pipeline that runs is audited in test_audit_live.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sda_pipeline.dlq.entry import dlq_id
from sda_pipeline.dlq.quarantine_file import Line, QuarantineFile
from sda_pipeline.records.frames import KIND_ROWS
from sda_pipeline.state.snapshot import take_snapshot
from sda_pipeline.state.store import CorrelatorStore
from tests.process.flow import PLAYBACK
from tests.process.forgery import Files, Logged
from tests.process.lies_about_alerts import OTHER_LIES, SINK_LIES, SUBSCRIBER_LIES
from tests.process.lies_about_records import (
    DLQ_LIES,
    LOG_LIES,
    STORE_LIES,
    Lie,
    renamed,
    with_first,
)
from tests.process.lies_by_field import FIELD_LIES
from tests.process.lies_by_record import RECORD_LIES
from tests.process.lies_of_two import TWO_LIES
from tests.process.site import EPOCH_NS, FINISH_WITHIN_S, Site, kill_tree

pytestmark = pytest.mark.process

LIES: dict[str, Lie] = {
    f"{where}: {name}": lie
    for where, lies in (
        ("log", LOG_LIES), ("correlator", STORE_LIES), ("dlq", DLQ_LIES), ("sink", SINK_LIES),
        ("subscriber", SUBSCRIBER_LIES), ("other", OTHER_LIES), ("field", FIELD_LIES),
        ("record", RECORD_LIES), ("two", TWO_LIES),
    )
    for name, lie in lies.items()
}  # fmt: skip


@pytest.fixture(scope="module")
def told(prepared: Site, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """What a pipeline leaves that stopped when all was delivered: alerts are open, rows kept."""
    site = prepared.copy_to(tmp_path_factory.mktemp("told") / "site")
    site.write_topology(**PLAYBACK)
    process = site.start("--until-idle")
    try:
        assert process.wait(FINISH_WITHIN_S) == 0, site.story()
    finally:
        if process.poll() is None:
            kill_tree(process)
    store = CorrelatorStore(site.state / "correlator", readonly=True)
    take_snapshot(store, site.state / "snapshots", EPOCH_NS, lambda _: None)
    store.close()
    return Files(site.root)


def test_it_finds_nothing_in_what_a_pipeline_leaves(told: Files) -> None:
    report = told.audit()
    assert report.faults == []
    assert [source.residue for source in report.sources] == [0, 0, 0]
    assert [record.header.kind for record in told.log("radar")] == [KIND_ROWS, KIND_ROWS]
    assert told.contents().rows
    assert len(told.contents().outbox) > 5
    assert {state["final"] for state in told.alerts().values()} == {True, False}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_found_and_its_place_told(name: str, told: Files, tmp_path: Path) -> None:
    forge, place = LIES[name]
    files = told.copy_to(tmp_path)
    forge(files)
    faults = files.audit().faults
    assert any(place in fault for fault in faults), f"{place!r} is not in {faults[:5]}"
    assert not [fault for fault in faults if "match its CRC" in fault], "only the lie is wrong"


def quarantine(files: Files) -> Line:
    """Tell everywhere but in the quarantine file that the radar's first reject was quarantined."""

    def in_log(log: list[Logged]) -> list[Logged]:
        log = [record.with_counts(rejected=-1, quarantined=1) for record in log]
        killer = renamed(log[0].rejects[0], kind="Quarantined")
        return [log[0]._replace(rejects=[killer, *log[0].rejects[1:]]), *log[1:]]

    files.relog("radar", in_log)
    reject = files.log("radar")[0].rejects[0]
    topic, place = "sda.obs.radar", (reject.generation, reject.partition, reject.offset)
    name = dlq_id("radar", topic, *place, error_kind=reject.kind)
    files.relist(
        lambda entries: with_first(entries, error_kind=reject.kind, dlq_id=name, root=name)
    )
    counts = tuple(files.log("radar")[-1].frame.counts.as_tuple())
    files.position("radar", lambda entry: entry.update(counts=counts))
    found = files.contents().found
    files.reseal(lambda _: found)
    return Line(
        at="2026-11-23T12:00:00Z", operator="radar", deaths=3, source="radar",
        generation=place[0], partition=place[1], offset=place[2], report=0,
    )  # fmt: skip


def test_a_quarantined_record_must_be_named_in_the_quarantine_file(
    told: Files, tmp_path: Path
) -> None:
    files = told.copy_to(tmp_path)
    line = quarantine(files)
    (fault,) = files.audit().faults
    assert fault == (
        f"radar: partition 0 offset {line.offset} was quarantined, "
        "but quarantine.jsonl does not name it"
    )
    QuarantineFile(files.state / "quarantine.jsonl").append(line)
    assert files.audit().faults == []
    assert files.audit().sources[0].quarantined == 1


def test_the_command_says_where_and_exits_1(told: Files, tmp_path: Path) -> None:
    files = told.copy_to(tmp_path)
    site = Site(files.root)
    done = site.run("sda-supervisor", "audit", "--state", "state")
    assert (done.returncode, done.stderr) == (0, "")
    LIES["subscriber: middle effect gone"][0](files)
    done = site.run("sda-supervisor", "audit", "--state", "state", check=False)
    assert done.returncode == 1
    assert "cannot prove the sum: subscriber.sqlite: ledger row 8" in done.stderr
    assert "residue" in done.stdout
