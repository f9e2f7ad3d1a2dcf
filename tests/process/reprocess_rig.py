"""A pipeline whose DLQ holds records of sensors it did not know, and ``sda-reprocess``. No test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import yaml

from sda_pipeline.dlq.entry import Entry
from sda_pipeline.dlq.files import read_entries
from sda_pipeline.dlq.redrive import Sending
from sda_pipeline.dlq.reprocess_ledger import read_sendings
from sda_pipeline.errors import SdaError
from supervisor.control import ask
from supervisor.quiescence import delivered
from tests.process import verdict
from tests.process.flow import PLAYBACK
from tests.process.poison import RADAR_TOPIC
from tests.process.site import RECORDED_S, ROOT, SEED, Site, kill_tree
from tests.process.state_rig import copy_of
from tests.process.waiting import wait_until


class Done(NamedTuple):
    """An ``sda-reprocess`` that ended: its exit code, its JSON, its stderr, its CPU seconds."""

    code: int
    said: dict[str, Any]
    stderr: str
    cpu_s: float


def record(site: Site, rate: int, *, radar_only: bool) -> list[bytes]:
    """Clean traffic into ``traffic.jsonl``; its lines."""
    site.run(
        "sda-sim", "record", "traffic.jsonl", "--rate", str(rate), "--for", f"{RECORDED_S}s",
        "--seed", str(SEED),
    )  # fmt: skip
    path = site.root / "traffic.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    if radar_only:
        lines = [line for line in lines if orjson.loads(line)["topic"] == RADAR_TOPIC]
        path.write_bytes(b"".join(lines))
    return lines


def forget_sensors(site: Site, unknown: Callable[[str], bool]) -> None:
    """A sensors file without these sensors."""
    known = yaml.safe_load((ROOT / "sensors.yaml").read_text())["sensors"]
    left = {name: sensor for name, sensor in known.items() if not unknown(name)}
    assert 0 < len(left) < len(known)
    (site.root / "sensors.yaml").write_text(yaml.safe_dump({"sensors": left}))


def restore_sensors(site: Site) -> None:
    """The sensors file with all sensors."""
    shutil.copy(ROOT / "sensors.yaml", site.root / "sensors.yaml")


class Live:
    """A pipeline that runs, and what a test asks of it."""

    def __init__(self, site: Site, *flags: str, failpoints: str = "") -> None:
        self.site = site
        self.process = site.start(*flags, failpoints=failpoints)
        try:
            wait_until(self.all_running, site.story)
        except AssertionError:
            kill_tree(self.process)
            raise

    def all_running(self) -> bool:
        try:
            operators = ask(self.site.state, "status", "look")["operators"]
        except SdaError:
            return False
        return bool(operators) and all(o["state"] == "running" for o in operators)

    def words(self) -> dict[str, int]:
        return ask(self.site.state, "board", "look")["words"]  # type: ignore[no-any-return]

    def settled(self) -> bool:
        """All that was sent is read, applied, in the DLQ, and at the subscriber."""
        return delivered(self.words(), ("radar", "optical", "isl"))

    def settle(self, entries: int | None = None) -> None:
        """Wait until all is settled, with at least so many entries in the DLQ."""
        wait_until(
            lambda: len(in_dlq(self.site)) >= (entries or 0) and self.settled(), self.site.story
        )

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        """End what a failed test left running."""
        if self.process.poll() is None:
            kill_tree(self.process)

    def stop(self) -> None:
        self.site.run("sda-supervisor", "stop", "--state", "state")
        assert self.process.wait(60) == 0, self.site.story()


def in_dlq(site: Site) -> list[Entry]:
    return [*read_entries(site.state / "dlq")]


def sendings(site: Site) -> list[Sending]:
    return read_sendings(site.state)


def reprocess(site: Site, *arguments: str, failpoints: str = "", check: bool = True) -> Done:
    """``sda-reprocess ... --json`` to its end."""
    before = os.times()
    done = subprocess.run(
        site.command("sda-reprocess", *arguments, "--json"), cwd=site.root, capture_output=True,
        env={**os.environ, "SDA_FAILPOINTS": failpoints}, timeout=120, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    after = os.times()
    cpu = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    if check:
        assert done.returncode == 0, done.stderr.decode()
    said = orjson.loads(done.stdout) if done.stdout.startswith(b"{") else {}
    return Done(done.returncode, said, done.stderr.decode(), cpu)


def killed_at(site: Site, failpoint: str, *arguments: str) -> None:
    """``sda-reprocess`` that dies by SIGKILL at a failpoint."""
    done = reprocess(site, *arguments, failpoints=failpoint, check=False)
    assert done.code == -signal.SIGKILL, (failpoint, done.code, done.stderr)


def counts(site: Site) -> dict[str, dict[str, int]]:
    """The audit's classes by source; it must find nothing wrong."""
    done = site.run("sda-supervisor", "audit", "--json", "--state", "state")
    return {source["source"]: source for source in orjson.loads(done.stdout)["sources"]}


def refused_first(
    prepared: Site, root: Path, rate: int, unknown: Callable[[str], bool], *, radar_only: bool
) -> tuple[Site, dict[str, str]]:
    """A stopped site whose records of unknown sensors are in the DLQ, all sensors known since;
    and the canonical finals of the same input with all sensors known from the start.
    """
    site = prepared.copy_to(root / "site", without="broker")
    site.write_topology(**PLAYBACK)
    lines = record(site, rate, radar_only=radar_only)
    site.fill()
    reference = site.copy_to(root / "reference")
    reference.finish()
    finals = verdict.finals(reference)
    assert len(finals) >= 5
    forget_sensors(site, unknown)
    refused = sum(unknown(orjson.loads(line)["value"]["idSensor"]) for line in lines)
    with Live(site) as live:
        live.settle(refused)
        live.stop()
    assert len(in_dlq(site)) == refused
    restore_sensors(site)
    return site, finals


def copy_with_state(site: Site, root: Path) -> Site:
    """The whole stopped site; its resolved topology names its own directories."""
    copied = copy_of(site, root)
    path = copied.state / "topology.json"
    path.write_bytes(path.read_bytes().replace(bytes(site.root), bytes(root)))
    return copied


def taken(site: Site) -> int:
    """Radar rows the correlator has taken, whatever became of them."""
    radar = counts(site)["radar"]
    return radar["applied"] + radar["unpaired"] + radar["duplicate"]
