"""A pipeline stopped in the middle, damage to its files, and what must be true afterwards. No test.

The checks are those of ``verdict``, read in this process: starting a command each time would cost
more than the runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import SdaError
from sda_pipeline.failpoints import HANGS
from sda_pipeline.records.alert import canonical
from sda_pipeline.runtime.audit import audit
from sda_pipeline.state.alert_log import read_alerts
from sda_pipeline.state.recovery import CORRELATOR, SNAPSHOTS
from sda_pipeline.state.snapshot import data_path, manifests, take_snapshot
from sda_pipeline.state.store import CorrelatorStore
from sda_pipeline.state.subscriber_store import FILE_NAME, read_effects
from sda_pipeline.topology import from_resolved_json
from supervisor.control import ask
from tests.process import verdict
from tests.process.site import FINISH_WITHIN_S, Site, kill_tree
from tests.process.waiting import wait_until

SOURCES = ("radar", "optical", "isl")
STANDS_STILL_S = 0.7  # longer than an idle operator is ever silent
HANG = "correlator.inside_commit=2:hang"


def status(site: Site) -> dict[str, Any]:
    """The live status, {} while nobody answers."""
    try:
        return ask(site.state, "status", "look")
    except SdaError:
        return {}


def operator(site: Site, name: str) -> dict[str, Any]:
    return next((o for o in status(site).get("operators", []) if o["name"] == name), {})


def stands_still(site: Site, name: str) -> bool:
    """It hangs where a failpoint told it to."""
    return (operator(site, name).get("silent_s") or 0.0) > STANDS_STILL_S


def hangs(site: Site, name: str) -> bool:
    """It is in a failpoint that hangs, exactly there."""
    try:
        comm = Path(f"/proc/{operator(site, name)['pid']}/comm").read_text()
    except (KeyError, OSError):  # not born yet, or gone
        return False
    return comm.strip() == HANGS


def all_running(site: Site) -> bool:
    operators = status(site).get("operators", [])
    return bool(operators) and all(o["state"] == "running" for o in operators)


def all_logged(site: Site) -> bool:
    """The sources have read all their input: their logs are ahead of the correlator."""
    words = ask(site.state, "board", "look")["words"]
    return all(words[f"{source}.ended"] for source in SOURCES)


def stop_in_the_middle(
    site: Site,
    failpoints: str = HANG,
    *,
    snapshot: bool,
    until: Callable[[], object] = lambda: True,
) -> None:
    """Run until the correlator hangs in its second commit, then SIGKILL to the whole tree."""
    process = site.start("--end-of-input", failpoints=failpoints)
    try:
        wait_until(lambda: stands_still(site, "correlator") and all_logged(site), site.story)
        if snapshot:
            wait_until(lambda: told(site, "replicator", "snapshot"), site.story)
        wait_until(until, site.story)
    finally:
        kill_tree(process)
    wait_until(lambda: not site.survivors(), site.story)


def copy_of(site: Site, root: Path) -> Site:
    """The whole site, its state and its subscriber included."""
    shutil.copytree(site.root, root, ignore=shutil.ignore_patterns("control.sock"))
    return Site(root)


def told(site: Site, name: str, event: str) -> list[dict[str, Any]]:
    """An operator's log lines of one kind."""
    return [line for line in site.events(name) if line["event"] == event]


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def flip(path: Path, at: int) -> None:
    """Change one bit; a negative place counts from the end."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def segment(site: Site, source: str) -> Path:
    """The first segment of a source's log."""
    return site.state / "log" / source / f"{1:020d}.log"


def damage_stored_value(site: Site) -> None:
    """In the rows of the newest commit: LMDB itself sees nothing wrong."""
    file = site.state / "correlator" / "data.mdb"
    rows = segment(site, "radar").read_bytes()
    data = file.read_bytes()
    at = next(
        data.index(piece)
        for start in range(4096, len(rows), 64)
        if (piece := rows[start : start + 24]) in data and any(piece)
    )
    flip(file, at)


def second_snapshot(site: Site) -> None:
    """One more snapshot of a stopped pipeline's store: of that very moment."""
    store = CorrelatorStore(site.state / CORRELATOR, readonly=True)
    try:
        taken = take_snapshot(
            store, site.state / SNAPSHOTS, SystemClock().wall_ns(), lambda _: None
        )
    finally:
        store.close()
    assert len(manifests(site.state / SNAPSHOTS)) >= 2, "there must be an older one"
    assert manifests(site.state / SNAPSHOTS)[0] == taken


def damage_newest_snapshot(site: Site) -> None:
    newest = manifests(site.state / SNAPSHOTS)[0]
    flip(data_path(site.state / SNAPSHOTS, newest.sequence), 4096 + 100)


def kill_operator(site: Site, name: str) -> None:
    os.kill(operator(site, name)["pid"], signal.SIGKILL)


def refused(site: Site, *flags: str) -> tuple[int, str]:
    """A start that must not succeed: its exit code and its last line, with nothing left behind."""
    process = site.start("--end-of-input", *flags)
    return ended(site, process)


def ended(site: Site, process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Wait for a run that stops by itself: its exit code and last line; no traceback anywhere."""
    try:
        code = process.wait(FINISH_WITHIN_S)
    except subprocess.TimeoutExpired:
        kill_tree(process)
        raise AssertionError(f"did not end:\n{site.story()}") from None
    said = (site.root / "supervisor.out").read_text()
    assert crashes(site) == []
    assert "Traceback" not in said
    assert verdict.left_behind(site) == []
    last = said.rstrip().splitlines()[-1]
    assert last.startswith("cannot "), said[-2000:]
    assert ": " in last
    assert "; " in last
    return code, last


def crashes(site: Site) -> list[str]:
    """Errors that no one expected, from every log."""
    names = [path.stem for path in (site.state / "logs").glob("*.jsonl")]
    return [str(line) for name in names for line in told(site, name, "crashed")]


def finals(site: Site) -> dict[str, str]:
    records = read_alerts(site.state / "alerts.sqlite", final_only=True)
    return {record["alert_id"]: canonical(record) for record in records}


def ledger(site: Site) -> list[dict[str, Any]]:
    return list(read_effects(site.root / "subscriber" / FILE_NAME))


def audit_of(site: Site) -> Any:
    return audit(from_resolved_json((site.state / "topology.json").read_bytes()))


def check(site: Site, undisturbed: dict[str, str]) -> None:
    """All that every crash test asserts, and no traceback on the way."""
    assert finals(site) == undisturbed, site.story()
    rows = ledger(site)
    assert verdict.ledger_faults(rows) == []
    report = audit_of(site)
    assert report.faults == []
    assert [source.residue for source in report.sources] == [0, 0, 0]
    confirmed = {row["alert_id"] for row in rows if row["final"] and row["level"]}
    assert confirmed == set(undisturbed)
    assert verdict.left_behind(site) == []
    assert crashes(site) == []
