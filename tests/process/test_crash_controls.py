"""Each rule of the exactly-once chain broken on purpose: the crash tests' checks go red."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.control import ask
from tests.process import verdict
from tests.process.site import ROOT, Site, kill_tree
from tests.process.test_crash import rewinds
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process

# Long enough for a sound pipeline to finish several times over; a broken one may never finish.
GIVES_UP_AFTER_S = 20.0


def run_broken(site: Site, rule: str, failpoints: str) -> list[str]:
    """What the crash tests would object to after this run; empty when all is well."""
    command = [sys.executable, "-m", "tests.process.broken_pipeline", "start", rule]
    process = site.spawn([*command, str(site.topology)], failpoints, cwd=ROOT)
    try:
        process.wait(GIVES_UP_AFTER_S)
    except subprocess.TimeoutExpired:
        return ["never finished"]
    finally:
        if process.poll() is None:
            kill_tree(process)
        wait_until(lambda: not site.survivors(), site.story)
    if process.returncode != 0:
        return [f"exit {process.returncode}: {(site.root / 'supervisor.out').read_text()[-500:]}"]
    return [f"{rewinds(site)} rewinds"] * bool(rewinds(site))


def objections(site: Site, undisturbed: dict[str, str], found: list[str]) -> list[str]:
    """Those of the run, and those of its ledger and finals."""
    if (site.root / "subscriber" / "subscriber.sqlite").exists():
        found += verdict.ledger_faults(verdict.raw_ledger(site))
    if not any("never" in fault or "exit" in fault for fault in found):
        found += ["finals differ"] * (verdict.finals(site) != undisturbed)
    return found


BREAKS = {
    "release_before_commit": ["correlator.inside_commit=1:kill", "correlator.inside_commit=2:kill"],
    "dedup_off": ["subscriber.after_commit=1:kill", "alert-sink.after_commit=1:kill"],
}


@pytest.mark.parametrize("rule", BREAKS)
def test_a_broken_rule_goes_red(
    rule: str, prepared: Site, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    found: list[str] = []
    for number, failpoint in enumerate(BREAKS[rule]):
        site = prepared.copy_to(tmp_path / f"site-{number}")
        found = objections(site, undisturbed, run_broken(site, rule, failpoint))
        if found:
            print(rule, failpoint, found[:3])
            assert "Error" not in found[0], "broken beyond the rule"
            return
    pytest.fail(f"{rule} broken, and every check stayed green")


def seen_but_not_stored(site: Site, rule: str, hit: int) -> bool:
    """Whether the sink holds entries of a commit in whose middle the correlator stands still.

    Were the correlator to die there, somebody would have seen an alert that nobody remembers.
    """
    command = [sys.executable, "-m", "tests.process.broken_pipeline", "start", rule]
    hang = f"correlator.inside_commit={hit}:hang"
    process = site.spawn([*command, str(site.topology)], hang, cwd=ROOT)
    try:
        wait_until(lambda: site.stands_in("correlator", "COMMIT"), site.story)
        words = ask(site.state, "board", "read the board")["words"]
        return bool(words["sink_pos"] > words["outbox_end"])
    finally:
        kill_tree(process)
        wait_until(lambda: not site.survivors(), site.story)


@pytest.mark.parametrize(("rule", "red"), [("emission_before_commit", True), ("nothing", False)])
def test_emission_before_commit_goes_red(
    rule: str, red: bool, prepared: Site, tmp_path: Path
) -> None:
    hits = range(1, 5)  # the first commits may have nothing to emit yet
    sites = [prepared.copy_to(tmp_path / f"site-{hit}") for hit in hits]
    found = any(seen_but_not_stored(site, rule, hit) for site, hit in zip(sites, hits, strict=True))
    assert found is red


def test_the_same_harness_is_green_when_no_rule_is_broken(
    site: Site, undisturbed: dict[str, str]
) -> None:
    found = run_broken(site, "nothing", "correlator.inside_commit=2:kill")
    assert objections(site, undisturbed, found) == []
