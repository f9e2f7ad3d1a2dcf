"""A record that kills its operator is quarantined after the third death, and the stream goes on.

The kill is the failpoint ``<operator>.row@ID:kill``, which fires in every incarnation.
"""

from __future__ import annotations

import os
import re
import signal
from collections import Counter

import orjson
import pytest

from sda_pipeline.dlq.quarantine_file import NAME, Line, read_quarantine
from tests.process import verdict
from tests.process.poison import Poison, choose, quarantined, run_without, told
from tests.process.site import Site, kill_tree
from tests.process.test_crash import rewinds
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def poison(prepared: Site, undisturbed: dict[str, str]) -> tuple[Poison, Poison]:
    return choose(prepared, undisturbed)


@pytest.fixture(scope="module")
def without(
    prepared: Site,
    undisturbed: dict[str, str],
    poison: tuple[Poison, Poison],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """Canonical finals of the same input without the two records."""
    root = tmp_path_factory.mktemp("without") / "site"
    found = run_without(prepared, root, {record.id for record in poison})
    assert found != undisturbed, "the records must matter, else the tests below prove nothing"
    return found


def failpoints(*deadly: tuple[str, Poison], action: str = "kill") -> str:
    return ",".join(f"{operator}.row@{record.id}:{action}" for operator, record in deadly)


def lines(site: Site) -> list[Line]:
    return read_quarantine(site.state / NAME)


def check(site: Site, without: dict[str, str], *deadly: tuple[str, Poison]) -> None:
    """Everything but the deadly records took effect, these are in the DLQ once, the sum is exact.

    An operator that met a record it dies of died three times of it, as far as one supervisor saw.
    """
    verdict.check(site, without)
    assert rewinds(site) == 0
    entries = {entry.offset: entry for entry in quarantined(site)}
    assert sorted(e.offset for e in quarantined(site)) == sorted(p.offset for _, p in deadly)
    for operator, record in deadly:
        entry = entries[record.offset]
        assert (entry.operator, entry.topic, entry.partition) == ("radar", "sda.obs.radar", 0)
        assert entry.original_payload == record.value
        assert entry.error_message == (
            f"quarantine: it ended {operator} 3 times in a row, the limit is 2"
        )
    named = Counter((line.operator, line.offset) for line in lines(site))
    assert named == Counter((operator, record.offset) for operator, record in deadly)
    done = site.run("sda-supervisor", "audit", "--json", "--state", "state")
    radar = orjson.loads(done.stdout)["sources"][0]
    assert (radar["quarantined"], radar["residue"]) == (len(deadly), 0)


def deaths(site: Site, operator: str) -> int:
    return sum(e["operator"] == operator and not e["asked"] for e in told(site, "died"))


@pytest.mark.parametrize(
    "operators",
    [("radar", "correlator"), ("radar", "radar"), ("correlator", "correlator")],
    ids="-and-".join,
)
def test_two_deadly_records_in_the_middle_of_large_batches(
    operators: tuple[str, str], site: Site, poison: tuple[Poison, Poison], without: dict[str, str]
) -> None:
    deadly = [*zip(operators, poison, strict=True)]
    site.finish(failpoints=failpoints(*deadly))
    check(site, without, *deadly)
    for operator in set(operators):
        assert deaths(site, operator) == 3 * operators.count(operator), site.story()
    if "correlator" in operators:  # a hand-made lie: rows were skipped that no line names
        (site.state / NAME).rename(site.state / "elsewhere")
        faults = "\n".join(verdict.audit_faults(site))
        assert re.search(r"radar: \d rows were skipped .*but quarantine.jsonl names 0", faults)


# The supervisor's events after which the whole tree is killed, one after the other.
MOMENTS = ("in_flight", "suspect", "quarantined", "suspect", "quarantined")


def test_the_whole_tree_is_killed_in_the_middle_of_it(
    site: Site, poison: tuple[Poison, Poison], without: dict[str, str]
) -> None:
    deadly = [*zip(("radar", "correlator"), poison, strict=True)]
    points = failpoints(*deadly)
    for event in MOMENTS:
        before = len(told(site, event))
        process = site.start("--end-of-input", failpoints=points)
        wait_until(lambda event=event, before=before: len(told(site, event)) > before, site.story)
        kill_tree(process)
        wait_until(lambda: not site.survivors(), site.story)
    site.finish(failpoints=points)
    check(site, without, *deadly)


@pytest.mark.parametrize("kill", ["radar.after_sync", "dlq-sink.after_append"])
def test_the_report_of_a_skipped_row_survives_kills(
    kill: str, site: Site, poison: tuple[Poison, Poison], undisturbed: dict[str, str]
) -> None:
    """The source logs the original of a row the correlator skipped; it or the sink dies of that."""
    record, operator = poison[0], kill.split(".", maxsplit=1)[0]
    deadly = failpoints(("correlator", record))
    # The source hangs after its first batch, so that it cannot have reported when all are killed.
    first = site.start("--end-of-input", failpoints=f"{deadly},radar.after_publish=1:hang")
    wait_until(lambda: lines(site), site.story)
    kill_tree(first)
    wait_until(lambda: not site.survivors(), site.story)
    assert quarantined(site) == []
    lives = site.lives(operator)
    site.finish(failpoints=f"{deadly},{kill}=1:kill")
    assert site.lives(operator) == lives + 2, "it was killed once"
    assert [entry.offset for entry in quarantined(site)] == [record.offset]
    assert verdict.audit_faults(site) == []
    assert verdict.ledger_faults(verdict.ledger(site)) == []
    assert verdict.finals(site) != undisturbed


@pytest.mark.parametrize("operator", ["radar", "correlator"])
def test_kills_from_outside_accuse_no_record(
    operator: str, site: Site, poison: tuple[Poison, Poison], undisturbed: dict[str, str]
) -> None:
    """Four kills in a row with the same batch in flight: it hangs there, so the moment is exact."""
    process = site.start(
        "--end-of-input", failpoints=failpoints((operator, poison[0]), action="hang")
    )
    for life in range(1, 5):
        event = "probing" if life > 2 else "ready"
        wait_until(lambda life=life: site.lives(operator) == life, site.story)
        if event == "probing":
            wait_until(lambda life=life: probes(site, operator) == life - 2, site.story)
        else:
            wait_until(lambda: site.silent(operator), site.story)
        os.kill(pid_of(site, operator), signal.SIGKILL)
        wait_until(lambda life=life: deaths(site, operator) == life, site.story)
    kill_tree(process)
    wait_until(lambda: not site.survivors(), site.story)
    assert len(told(site, "in_flight")) == 4
    assert len(told(site, "suspect")) >= 2
    assert not (site.state / NAME).exists()
    site.finish()
    verdict.check(site, undisturbed)
    assert quarantined(site) == []


def probes(site: Site, operator: str) -> int:
    return sum(event["event"] == "probing" for event in site.events(operator))


def pid_of(site: Site, operator: str) -> int:
    (pid,) = [o["pid"] for o in site.status()["operators"] if o["name"] == operator]
    return int(pid)
