"""How long a restore of 100 MB of correlator state takes: from its birth to its first output.

A small run is killed in the middle, with the source logs ahead of the correlator. Then its store is
grown: every retained row is repeated under new ids until it has the size. It is opened from this
disk, from a local snapshot, and from S3, each several times; the slowest counts. Output is an entry
of the outbox that the alert sink did not have. Needs the real S3 server (`make infra`).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from operators.alert_sink import FILE_NAME
from sda_pipeline.clock import Clock
from sda_pipeline.limits import MIB, SECOND_NS
from sda_pipeline.records.rows import ROW
from sda_pipeline.records.time_text import parse_time
from sda_pipeline.state.alert_log import AlertLog
from sda_pipeline.state.manifest import Manifest
from sda_pipeline.state.recovery import CORRELATOR, SNAPSHOTS
from sda_pipeline.state.remote import RemoteSnapshots
from sda_pipeline.state.replica import S3Objects
from sda_pipeline.state.snapshot import take_snapshot
from sda_pipeline.state.store import Changes, CorrelatorStore
from sda_pipeline.topology import load_topology
from tests.bench.bench_figures import Figure, shown
from tests.bench.bench_inputs import EPOCH, Say, fill, make_catalogue, make_site
from tests.bench.bench_tree import BenchError, Status, tree_of
from tests.process.site import Site
from tests.process.state_rig import stop_in_the_middle
from tests.servers.s3_server import REGION, S3Server

STATE_BYTES = 100 * MIB
LOCAL_S, REMOTE_S = 2.0, 5.0  # SPEC 10
OBSERVATIONS, OBJECTS, MINUTES, PER_MINUTE = 60_000, 2_000, 2.0, 60.0
HZ = 500.0  # two minutes of event time
IN_THE_MIDDLE = "correlator.inside_commit=6:hang"
LOOK_EVERY_S = 0.01
SAMPLES = 3


def measure_restore(root: Path, clock: Clock, say: Say) -> tuple[list[Figure], dict[str, Any]]:
    """Some restores from each rung. Figures and details."""
    before = dict(os.environ)
    with S3Server(root / "s3") as server:
        os.environ.update(server.environment())
        try:
            site = _stopped(root / "grown", server, say)
            size = _grow(site, say)
            manifest = _snapshot(site, clock)
            _upload(site, manifest, say)
            found = {
                rung: [_restore(site, root / rung, lost, rung, say) for _ in range(SAMPLES)]
                for rung, lost in {
                    "local": (), "snapshot": (CORRELATOR,), "remote": (CORRELATOR, SNAPSHOTS)
                }.items()
            }  # fmt: skip
        finally:
            os.environ.clear()
            os.environ.update(before)
    bars = {"local": LOCAL_S, "snapshot": LOCAL_S, "remote": REMOTE_S}
    figures = []
    for rung, bar in bars.items():
        outputs, commits, ready = (
            sorted(each[key] for each in found[rung]) for key in ("output_s", "commit_s", "ready_s")
        )
        note = (
            f"slowest of {SAMPLES} ({', '.join(shown(s) for s in outputs)}), {size / MIB:.0f} MiB; "
            f"ready after {ready[-1]:.2f} s, first commit after {commits[-1]:.2f} s"
        )
        name = f"restore from {rung}, load to first output"
        figures.append(Figure(name, outputs[-1], "s", at_most=bar, note=note))
    return figures, {"state_bytes": size, "rungs": found}


def _stopped(root: Path, server: S3Server, say: Say) -> Site:
    """A site killed with its logs ahead of its correlator."""
    site = make_site(root)
    s3 = {"bucket": server.bucket, "prefix": "b", "endpoint": server.endpoint, "region": REGION}
    site.write_topology(checkpoint={"every_s": 3600, "s3": s3})
    make_catalogue(site, OBJECTS, MINUTES, EPOCH, PER_MINUTE)
    fill(site, OBSERVATIONS, say, HZ)
    stop_in_the_middle(site, IN_THE_MIDDLE, snapshot=False)
    return site


def _grow(site: Site, say: Say) -> int:
    """Repeat the retained rows under new ids; returns the bytes of the store's file then."""
    store = CorrelatorStore(site.state / CORRELATOR)
    rng = np.random.default_rng(1)
    try:
        held = [(key, np.frombuffer(data, ROW)) for key, data in store.rows()]
        rows = sum(len(each) for _, each in held)
        if not rows:
            raise BenchError("the killed correlator had retained no rows")
        times = -(-STATE_BYTES // (rows * ROW.itemsize))
        say(f"growing {rows} retained rows to {times} times as many")
        for key, each in held:
            grown = np.tile(each, times)
            grown["id"] = rng.integers(1, 2**63, (len(grown), 2), dtype=np.uint64)
            grown["id"][: len(each)] = each["id"]
            store.commit(Changes(rows=[(key, grown.tobytes())]), lambda: None)
        return store.used_bytes()
    finally:
        store.close()


def _snapshot(site: Site, clock: Clock) -> Manifest:
    shutil.rmtree(site.state / SNAPSHOTS, ignore_errors=True)
    store = CorrelatorStore(site.state / CORRELATOR, readonly=True)
    try:
        return take_snapshot(store, site.state / SNAPSHOTS, clock.wall_ns(), lambda _: None)
    finally:
        store.close()


def _upload(site: Site, manifest: Manifest, say: Say) -> None:
    topology = load_topology(site.topology)
    assert topology.s3 is not None, "the site has a remote"
    remote = RemoteSnapshots(
        S3Objects(topology.s3), topology.s3.prefix, topology.pipeline, topology.s3.keep
    )
    say(f"uploading {manifest.size_bytes / MIB:.0f} MiB")
    remote.upload(site.state / SNAPSHOTS, manifest, lambda _: None, lambda: None)


def _restore(grown: Site, root: Path, lost: tuple[str, ...], rung: str, say: Say) -> dict[str, Any]:
    """Start a copy of it; seconds from the correlator's birth to READY, to its next commit, and to
    the first entry out of it that the alert sink did not have.
    """
    shutil.copytree(grown.root, root, ignore=shutil.ignore_patterns("control.sock"))
    site = Site(root)
    site.write_topology(checkpoint={"every_s": 3600, "s3": _s3_of(grown)})
    for name in lost:
        shutil.rmtree(site.state / name)
    shutil.rmtree(site.state / "logs")
    had = _at_the_sink(site)
    with tree_of(site) as tree:
        tree.start("--end-of-input")
        applied: dict[str, int] = {}
        seen: dict[str, int] = {}

        def all_seen(status: Status) -> bool:
            now = tree.clock.wall_ns()
            if _moved(site, status, applied):
                seen.setdefault("commit_s", now)
            if status["checkpoint"]["sink_pos"] > had:
                seen.setdefault("output_s", now)
            return len(seen) == 2

        tree.wait(all_seen, "the first output and the next commit", LOOK_EVERY_S)
    recovered = _event(site, "recovered")
    if recovered["path"] != rung:
        raise BenchError(f"{recovered['path']} served, not {rung}")
    born = _born_ns(site)
    found = {
        **{what: (at - born) / SECOND_NS for what, at in seen.items()},
        "ready_s": (_event(site, "ready")["ts_ns"] - born) / SECOND_NS,
        "recovery_s": recovered["seconds"],
    }
    say(f"{rung}: ready after {found['ready_s']:.2f} s, output after {found['output_s']:.2f} s")
    shutil.rmtree(root)
    return found


def _at_the_sink(site: Site) -> int:
    """The newest entry that the alert sink's store holds."""
    with AlertLog(site.state / FILE_NAME) as log:
        return log.position


def _s3_of(site: Site) -> dict[str, Any]:
    s3 = load_topology(site.topology).s3
    assert s3 is not None, "the site has a remote"
    return {"bucket": s3.bucket, "prefix": s3.prefix, "endpoint": s3.endpoint, "region": s3.region}


def _moved(site: Site, status: Status, first: dict[str, int]) -> bool:
    """A frame beyond what was restored is applied."""
    restored = [e for e in site.events("correlator") if e["event"] == "recovered"]
    if not restored:
        return False
    first.update(restored[-1]["positions"])
    return any(s["applied"] > first.get(s["name"], 0) for s in status["sources"])


def _event(site: Site, name: str) -> dict[str, Any]:
    return next(e for e in site.events("correlator") if e["event"] == name)


def _born_ns(site: Site) -> int:
    """When the supervisor made the correlator's process."""
    lines = (site.state / "logs" / "supervisor.jsonl").read_bytes().splitlines()
    events = [orjson.loads(line) for line in lines]
    at = next(e["at"] for e in events if e["event"] == "spawned" and e["operator"] == "correlator")
    return parse_time(at)
