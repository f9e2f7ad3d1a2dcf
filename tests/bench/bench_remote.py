"""What a remote store does to the correlator's commits: nothing, it should turn out.

The same live traffic without a remote, with a healthy one, and with ones that are slow, refuse, cut
connections, are overloaded or fill up; the commit times stand side by side.
Needs the real S3 server and the fault proxy (`make infra`), and root for the disk that fills up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sda_pipeline.clock import Clock
from sda_pipeline.errors import Unreachable
from sda_pipeline.limits import SECOND_NS
from tests.bench.bench_figures import CHECKPOINT_P99_MS, Figure, shown, times, worst_pauses_ms
from tests.bench.bench_inputs import RATE, SEED, Say, make_catalogue, make_site
from tests.bench.bench_tree import all_running, command, tree_of
from tests.process.site import Site
from tests.servers.fault_proxy import FaultProxies, FaultProxy
from tests.servers.overloaded_store import overloaded_store
from tests.servers.s3_server import REGION, S3Server
from tests.servers.small_disk import small_disk

NO_REMOTE = "no remote"  # the first one: the others are compared with it
SLOW_MS = 10_000
CUT_BYTES = 20_000  # of an upload, then the connection is closed
SMALL_DISK = "64m"  # full once the pipeline runs
LEAD_MINUTES = 1.5
SNAPSHOT_EVERY_S = 5.0  # oftener than by default: more uploads in a short run


@dataclass(frozen=True)
class RemoteOptions:
    """How much of it."""

    objects: int = 26_000
    per_minute: float = 120.0
    warm_up_s: float = 20.0
    quiet_s: float = 40.0


@dataclass(frozen=True)
class Store:
    """Where to upload, if anywhere, and what happens to that store once the pipeline runs."""

    bucket: str = ""
    endpoint: str = ""
    spoil: Callable[[], None] = lambda: None
    environment: Mapping[str, str] = field(default_factory=dict)  # with its credentials


def measure_remote(
    root: Path, options: RemoteOptions, clock: Clock, say: Say
) -> tuple[list[Figure], dict[str, Any]]:
    """One run for each store, one after the other. Figures and details."""
    details: dict[str, Any] = {}
    with _stores(root / "servers", say) as stores:
        for name, store in stores.items():
            say(f"live traffic with {name}")
            site = make_site(root / name.replace(" ", "-"), snapshot_every_s=SNAPSHOT_EVERY_S)
            checkpoint: dict[str, Any] = {"every_s": SNAPSHOT_EVERY_S}
            if store.endpoint:
                checkpoint["s3"] = {
                    "bucket": store.bucket, "prefix": name.replace(" ", "-"),
                    "endpoint": store.endpoint, "region": REGION, "recovery_wait_s": 1,
                }  # fmt: skip
            site.write_topology(checkpoint=checkpoint)
            with patch.dict(os.environ, store.environment):
                details[name] = _run(site, store, options, clock, say)
    return remote_figures(details), details


@contextmanager
def _stores(directory: Path, say: Say) -> Iterator[dict[str, Store]]:
    """Each way a store can be."""
    with (
        S3Server(directory / "s3") as server,
        FaultProxies(directory / "proxies") as proxies,
        overloaded_store() as overloaded,
        ExitStack() as closing,
    ):

        def at(endpoint: str, spoil: Callable[[], None] = lambda: None) -> Store:
            return Store(server.bucket, endpoint, spoil, server.environment())

        def behind_proxy(fault: Callable[[FaultProxy], None]) -> Store:
            proxy = proxies.add(server.port.address)
            return at(f"http://{proxy.address}", lambda: fault(proxy))

        stores = {
            NO_REMOTE: Store(),
            "healthy remote": at(server.endpoint),
            "10 s a call": behind_proxy(lambda proxy: proxy.delay(SLOW_MS)),
            "it refuses": behind_proxy(lambda proxy: proxy.down()),
            "it cuts": behind_proxy(lambda proxy: proxy.cut_after(CUT_BYTES, "upstream")),
            "it answers 503": at(overloaded),
        }
        try:
            disk = closing.enter_context(small_disk(directory / "small", SMALL_DISK))
            small = closing.enter_context(S3Server(disk.directory))
        except Unreachable as error:
            say(f"not measured: a store that fills up ({error})")
        else:
            stores["it fills up"] = Store(
                small.bucket, small.endpoint, disk.fill, small.environment()
            )
        yield stores


def _run(
    site: Site, store: Store, options: RemoteOptions, clock: Clock, say: Say
) -> dict[str, Any]:
    """One run; the commits of its quiet span, and what was uploaded meanwhile."""
    minutes = LEAD_MINUTES + (options.warm_up_s + options.quiet_s) / 60.0
    make_catalogue(site, options.objects, minutes, None, options.per_minute)
    with tree_of(site) as tree:
        tree.start("--allow-fresh")
        tree.wait(all_running, "every operator to be ready")
        store.spoil()
        with command(site, "sda-sim", "run", "--rate", str(RATE), "--seed", str(SEED)):
            _sit(clock, options.warm_up_s, "warming up", say)
            begin = clock.wall_ns()
            _sit(clock, options.quiet_s, "measuring", say)
            end = clock.wall_ns()
        tree.stop()
    events = site.events("replicator")
    within = [e for e in events if begin <= e["ts_ns"] <= end]
    counted = {
        kind: sum(event["event"] == kind for event in within)
        for kind in ("snapshot", "uploaded", "upload_failed")
    }
    return {"commits": worst_pauses_ms(site.events("correlator"), begin, end), **counted}


def _sit(clock: Clock, seconds: float, what: str, say: Say) -> None:
    say(f"{what} for {seconds:.0f} s")
    until = clock.monotonic_ns() + round(seconds * SECOND_NS)
    while (left := until - clock.monotonic_ns()) > 0:
        clock.sleep(min(1.0, left / SECOND_NS))


def remote_figures(details: dict[str, Any]) -> list[Figure]:
    """Of each store both percentiles, and how they stand to those without a remote."""
    figures = []
    alone = details[NO_REMOTE]["commits"]
    for name, found in details.items():
        commits = found["commits"]
        counts = (
            f"{commits['count']} commits; {found['snapshot']} snapshots, {found['uploaded']} "
            f"uploads, {found['upload_failed']} failed"
        )
        for which, bar in (("p50", None), ("p99", CHECKPOINT_P99_MS)):
            ratio = times(commits[which], alone[which])
            to_alone = "" if name == NO_REMOTE else f"{shown(ratio)} x {NO_REMOTE}"
            note = "; ".join(filter(None, [to_alone, counts if which == "p50" else ""]))
            title = f"commit {which}, {name}"
            figures.append(Figure(title, commits[which], "ms", at_most=bar, note=note))
    return figures
