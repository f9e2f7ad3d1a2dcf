"""A site whose snapshots go to the real S3 server, and ways to spoil what is there. No test."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sda_pipeline.broker.storage import open_storage
from sda_pipeline.clock import SystemClock
from sda_pipeline.dlq.files import read_entries
from sda_pipeline.limits import BROKER_MAP_BYTES
from sda_pipeline.state.manifest import Manifest
from sda_pipeline.state.remote import RemoteSnapshots
from sda_pipeline.state.replica import S3Objects
from sda_pipeline.topology import S3Settings
from tests.process.site import Site
from tests.process.state_rig import copy_of, status, stop_in_the_middle
from tests.servers.s3_server import REGION, S3Server

PIPELINE = "sda"
Rejects = Counter[tuple[str, int, int, bytes]]
WAIT_S = 3.0  # for a remote that is away


@dataclass(frozen=True)
class Remote:
    """What one site has in the bucket."""

    server: S3Server
    prefix: str

    def settings(self, endpoint: str | None = None) -> S3Settings:
        return S3Settings(self.server.bucket, self.prefix, endpoint or self.server.endpoint, REGION)

    def snapshots(self) -> RemoteSnapshots:
        """As the pipeline sees them."""
        settings = self.settings()
        return RemoteSnapshots(S3Objects(settings), self.prefix, PIPELINE, settings.keep)

    def good(self) -> list[Manifest]:
        return self.snapshots().listing().good

    def objects(self) -> list[str]:
        """Every key, without the prefix that all have."""
        listed = self.client().list_objects_v2(Bucket=self.server.bucket, Prefix=self.prefix)
        return [each["Key"].removeprefix(f"{self.prefix}/") for each in listed.get("Contents", ())]

    def client(self) -> Any:
        return self.server.client()

    def key(self, number: int, kind: str) -> str:
        """The key of the ``number``-th newest snapshot's data or manifest."""
        manifest, snapshots = self.good()[number], self.snapshots()
        if kind == "json":
            return snapshots.manifest_key(manifest.sequence)
        return snapshots.data_key(manifest)

    def read(self, key: str) -> bytes:
        data: bytes = self.client().get_object(Bucket=self.server.bucket, Key=key)["Body"].read()
        return data

    def write(self, key: str, data: bytes) -> None:
        self.client().put_object(Bucket=self.server.bucket, Key=key, Body=data)

    def delete(self, key: str) -> None:
        self.client().delete_object(Bucket=self.server.bucket, Key=key)

    def flip(self, number: int, kind: str = "snap") -> None:
        """Change one bit in the middle of an object."""
        key = self.key(number, kind)
        data = bytearray(self.read(key))
        data[len(data) // 2] ^= 0x10
        self.write(key, bytes(data))

    def empty(self) -> None:
        """Delete all of it."""
        for key in self.objects():
            self.delete(f"{self.prefix}/{key}")

    def copy(self) -> Remote:
        """The same objects under a prefix of their own."""
        other = new_remote(self.server)
        for key in self.objects():
            other.write(f"{other.prefix}/{key}", self.read(f"{self.prefix}/{key}"))
        return other


def new_remote(server: S3Server) -> Remote:
    return Remote(server, f"t-{secrets.token_hex(6)}")


def point_to(
    site: Site, remote: Remote, *, every_s: float = 1, endpoint: str = "", **more: Any
) -> None:
    """Let a site upload to this remote from its next start on."""
    s3 = {
        "bucket": remote.server.bucket, "prefix": remote.prefix, "region": REGION,
        "endpoint": endpoint or remote.server.endpoint, "recovery_wait_s": WAIT_S,
    }  # fmt: skip
    site.write_topology(checkpoint={"every_s": every_s, "s3": s3}, **more)


def interrupted_with_remote(prepared: Site, root: Path, server: S3Server) -> tuple[Site, Remote]:
    """Killed three times in the middle: two remote snapshots, and all that came after them."""
    site, remote = prepared.copy_to(root), new_remote(server)
    point_to(site, remote, every_s=0.5)
    for life in (1, 2):
        stop_in_the_middle(site, snapshot=False, until=lambda life=life: len(remote.good()) >= life)
    point_to(site, remote, every_s=60)
    stop_in_the_middle(site, snapshot=False)
    return site, remote


def copy_both(site: Site, remote: Remote, root: Path) -> tuple[Site, Remote]:
    """A site and what it has in the bucket, for one test to spoil."""
    copied, there = copy_of(site, root), remote.copy()
    point_to(copied, there)
    return copied, there


def all_applied(site: Site) -> bool:
    """Every source has read its input and the correlator has applied it."""
    sources = status(site).get("sources", [])
    return bool(sources) and all(
        s["lag"] == 0 and s["log_end"] == s["applied"] > 0 for s in sources
    )


def rejects_in_dlq(state: Path) -> Rejects:
    """What the DLQ holds: source, partition, offset and original bytes."""
    entries = read_entries(state / "dlq")
    return Counter((e.operator, e.partition, e.offset, e.original_payload) for e in entries)


def purge(site: Site, source: str) -> None:
    """Let the stopped site's broker delete all that it may of a source's topic."""
    storage = open_storage(site.root / "broker", BROKER_MAP_BYTES)
    try:
        assert storage.purge(f"sda.obs.{source}", SystemClock().wall_ns()), "nothing to delete"
    finally:
        storage.close()
