"""A row that was applied and committed, and kills the correlator in a later evaluation.

It is taken out of the store after the third death, is in the DLQ once, and the stream goes on. The
kill is the failpoint ``correlator.evaluated@ID:kill``, which fires in every incarnation; the row is
in the store before it is set.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import pytest

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.rows import ROW, uuid_text
from sda_pipeline.records.times import parse_times
from sda_pipeline.state.store import CorrelatorStore
from tests.process import verdict
from tests.process.poison import quarantined, run_without, told
from tests.process.site import Site, kill_tree
from tests.process.state_rig import copy_of
from tests.process.test_crash import rewinds
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process


class HeldRow(NamedTuple):
    id: str
    source: str
    offset: int


def held_rows(site: Site, finals: dict[str, str]) -> list[HeldRow]:
    """Retained rows that matter to an alert which is still open, those nearest its TCA first."""
    truth = orjson.loads((site.root / "traffic.jsonl.truth.json").read_bytes())
    injected = {fault["id"] for fault in truth["faults"]}
    store = CorrelatorStore(site.state / "correlator", readonly=True)
    stored = [(s, row) for (s, _), data in store.rows() for row in np.frombuffer(data, ROW)]
    closed_to = store.meta.closed_to
    store.close()
    found = []
    for alert in (dict(ast.literal_eval(final)) for final in finals.values()):
        tca = int(parse_times([alert["tca"]])[0][0])
        for source, row in stored:
            before, name = tca - int(row["t"]), uuid_text(row["id"])
            near = 0 <= before <= 25 * SECOND_NS and row["sat"] in (alert["sat1"], alert["sat2"])
            if tca > closed_to and near and name not in injected:
                found.append((before, HeldRow(name, source, int(row["offset"]))))
    return [row for _, row in sorted(found)]


@pytest.fixture(scope="module")
def deadly(interrupted: Site, undisturbed: dict[str, str]) -> HeldRow:
    found = held_rows(interrupted, undisturbed)
    assert found, "the store must hold rows of open alerts"
    return found[0]


@pytest.fixture(scope="module")
def without(
    prepared: Site, deadly: HeldRow, undisturbed: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:  # fmt: skip
    found = run_without(prepared, tmp_path_factory.mktemp("without") / "site", {deadly.id})
    assert found != undisturbed, "the row must matter, else the tests below prove nothing"
    return found


def check(site: Site, deadly: HeldRow, without: dict[str, str]) -> None:
    verdict.check(site, without)
    assert rewinds(site) == 0
    (entry,) = quarantined(site)
    assert (entry.operator, entry.offset) == (deadly.source, deadly.offset)
    assert orjson.loads(entry.original_payload)["id"].lower() == deadly.id
    assert "it ended correlator 3 times in a row, the limit is 2" in entry.error_message
    (taken,) = [e for e in site.events("correlator") if e["event"] == "rows_taken_out"]
    assert (taken["rows"], taken["sources"]) == (1, [deadly.source])
    done = site.run("sda-supervisor", "audit", "--json", "--state", "state")
    sources = {each["source"]: each for each in orjson.loads(done.stdout)["sources"]}
    assert (sources[deadly.source]["quarantined"], sources[deadly.source]["residue"]) == (1, 0)


def test_it_is_taken_out_after_the_third_death(
    interrupted: Site, deadly: HeldRow, without: dict[str, str], tmp_path: Path
) -> None:
    site = copy_of(interrupted, tmp_path / "site")
    site.finish(failpoints=f"correlator.evaluated@{deadly.id}:kill")
    deaths = [e for e in told(site, "died") if e["operator"] == "correlator" and not e["asked"]]
    assert len(deaths) == 3, site.story()
    check(site, deadly, without)


@pytest.mark.parametrize("event", ["suspect", "quarantined"])
def test_the_tree_is_killed_in_the_middle_of_it(
    event: str, interrupted: Site, deadly: HeldRow, without: dict[str, str], tmp_path: Path
) -> None:
    site = copy_of(interrupted, tmp_path / "site")
    point = f"correlator.evaluated@{deadly.id}:kill"
    process = site.start("--end-of-input", failpoints=point)
    wait_until(lambda: told(site, event), site.story)
    kill_tree(process)
    wait_until(lambda: not site.survivors(), site.story)
    site.finish(failpoints=point)
    check(site, deadly, without)
