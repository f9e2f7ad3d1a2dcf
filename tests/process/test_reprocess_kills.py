"""``sda-reprocess`` killed between every two of its steps and at random moments: a second run goes
on, and nothing takes effect twice.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from sda_pipeline.limits import REDRIVE_CHUNK_MESSAGES
from sda_pipeline.vocabulary import FAILPOINTS
from tests.process import verdict
from tests.process.flow import SEED
from tests.process.reprocess_rig import (
    Live,
    copy_with_state,
    counts,
    in_dlq,
    killed_at,
    refused_first,
    reprocess,
    sendings,
    taken,
)
from tests.process.site import ROOT, Site
from tests.process.test_kill_matrix import points_in
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process

RATE = 45
POINTS = FAILPOINTS["reprocess"]
ONCE = {"after_plan"}  # passed once a run; the others once a chunk
DOUBTFUL = {"after_intent", "after_produce", "after_ack"}  # the ledger has not heard of the end
KILLS = 6


@pytest.fixture(scope="module")
def refused(
    prepared: Site, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Site, dict[str, str]]:
    root = tmp_path_factory.mktemp("refused")
    return refused_first(prepared, root, RATE, lambda name: name.startswith("RAD"), radar_only=True)


def test_the_table_of_failpoints_is_the_codes_own() -> None:
    library = ROOT / "sda_pipeline"
    modules = [*(library / "cli/reprocess").glob("*.py"), *(library / "dlq").glob("*.py")]
    found = set().union(*map(points_in, modules))
    named = {f"{name}.{p}" for name in ("reprocess", "reprocess-migrate") for p in FAILPOINTS[name]}
    assert found == named


def failpoint(point: str) -> str:
    return f"reprocess.{point}={1 if point in ONCE else 2}:kill"


def test_killed_between_every_two_steps_while_the_pipeline_is_stopped(
    refused: tuple[Site, dict[str, str]], tmp_path: Path
) -> None:
    """Nothing tells the next run what the broker has: a chunk may be sent twice, with no effect."""
    site, finals = copy_with_state(refused[0], tmp_path / "site"), refused[1]
    entries = len(in_dlq(site))
    assert entries > 7 * REDRIVE_CHUNK_MESSAGES, "so that each run has chunks left to be killed in"
    for point in POINTS:
        killed_at(site, failpoint(point), "run", "--yes")
        told = reprocess(site, "run", "--dry-run").said["summary"]
        in_doubt = REDRIVE_CHUNK_MESSAGES if point in DOUBTFUL else 0
        assert told["unconfirmed"] == in_doubt, point
    open_before = sum(sending.done_ns is None for sending in sendings(site))
    reprocess(site, "run", "--yes")
    assert open_before == 3 * REDRIVE_CHUNK_MESSAGES, "after intent, produce and acknowledgement"
    finished = {s.dlq_id for s in sendings(site) if s.done_ns is not None}
    assert finished == {entry.dlq_id for entry in in_dlq(site)}
    site.finish("--accept-catalogue")
    verdict.check(site, finals)
    radar = counts(site)["radar"]
    twice = len(sendings(site)) - entries - REDRIVE_CHUNK_MESSAGES  # one intent was never produced
    assert radar["read"] - radar["rejected"] == entries + twice
    assert radar["duplicate"] + radar["unpaired"] >= twice > 0
    assert len(in_dlq(site)) == entries


def test_killed_between_every_two_steps_while_the_pipeline_runs(
    refused: tuple[Site, dict[str, str]], tmp_path: Path
) -> None:
    """What has arrived is found in the log: not a single record is sent twice."""
    site, finals = copy_with_state(refused[0], tmp_path / "site"), refused[1]
    entries = len(in_dlq(site))
    with Live(site, "--accept-catalogue") as live:
        for point in POINTS:
            killed_at(site, failpoint(point), "run", "--yes")
            live.settle()
        reprocess(site, "run", "--yes")
        live.settle()
        assert taken(site) == entries
        radar = counts(site)["radar"]
        assert (radar["read"], radar["late"], radar["duplicate"]) == (2 * entries, 0, 0)
        never = [s for s in sendings(site) if s.done_ns is None]
        assert len(never) == REDRIVE_CHUNK_MESSAGES, "killed before it was produced"
        live.stop()
    site.finish()
    verdict.check(site, finals)


def test_killed_at_random_moments(refused: tuple[Site, dict[str, str]], tmp_path: Path) -> None:
    """Each kill some random time after the ledger has reached a random length."""
    site, finals = copy_with_state(refused[0], tmp_path / "site"), refused[1]
    entries = len(in_dlq(site))
    rng = np.random.default_rng(SEED)
    lengths = np.sort(rng.integers(0, entries * 3 // 4, KILLS)).tolist()
    delays = rng.uniform(0.001, 0.3, KILLS).round(3).tolist()
    print(f"replay: SDA_SEED={SEED}, killed at {lengths} + {delays} s")
    killed_while_sending = 0
    with Live(site, "--accept-catalogue") as live:
        for length, delay in zip(lengths, delays, strict=True):
            was_killed = kill_at(site, length, delay)
            killed_while_sending += was_killed and 0 < len(sendings(site)) < entries
        assert killed_while_sending >= 2
        reprocess(site, "run", "--yes")
        live.settle()
        assert len(in_dlq(site)) == counts(site)["radar"]["rejected"] == entries
        assert taken(site) >= entries
        live.stop()
    site.finish()
    verdict.check(site, finals)


def kill_at(site: Site, length: int, delay: float) -> bool:
    """SIGKILL some time after the ledger has so many rows; False when it was done before."""
    process = subprocess.Popen(
        site.command("sda-reprocess", "run", "--yes", "--rate", "2000"), cwd=site.root,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: len(sendings(site)) >= length or process.poll() == 0, site.story)
    try:
        assert process.wait(delay) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False
