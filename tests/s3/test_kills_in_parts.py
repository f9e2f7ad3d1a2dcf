"""SIGKILL between the parts of a large snapshot's upload, with the pipeline's own bounds of size:
what it leaves at the store is swept by the next life, which then uploads the whole.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from operators.uploader import Uploader
from sda_pipeline.clock import SystemClock
from sda_pipeline.limits import MULTIPART_ABOVE_BYTES, PART_BYTES
from sda_pipeline.state.manifest import Manifest
from sda_pipeline.state.snapshot import data_path, manifest_path
from tests.process.site import ROOT
from tests.s3.remote_rig import Remote
from tests.servers.s3_server import S3Server

pytestmark = pytest.mark.process

_CHILD = Path(__file__).with_name("killed_uploader.py")
PARTS = 3
SIZE = (PARTS - 1) * PART_BYTES + 1
# Step, which hit of it, and whether the kill leaves an upload without an end.
KILLS = [
    *(("upload_part", number, True) for number in range(1, PARTS + 1)),
    ("upload_data", 1, False),
    ("upload_manifest", 1, False),
]


def large_snapshot(directory: Path) -> Manifest:
    """Above the bound for one put; an upload reads its bytes and its manifest, nothing else."""
    assert SIZE > MULTIPART_ABOVE_BYTES
    data, sequence = os.urandom(SIZE), 1 << 32 | 1
    manifest = Manifest(
        sequence=sequence, created_ns=1, epoch=1, catalogue="c", closed_to=0,
        positions={"radar": 5}, log_ids={"radar": 7},
        size_bytes=SIZE, sha256=hashlib.sha256(data).hexdigest(),
    )  # fmt: skip
    directory.mkdir()
    data_path(directory, sequence).write_bytes(data)
    manifest_path(directory, sequence).write_bytes(msgspec.json.encode(manifest))
    return manifest


def unended(remote: Remote) -> list[str]:
    """The keys of the uploads that never ended."""
    found = remote.client().list_multipart_uploads(
        Bucket=remote.server.bucket, Prefix=remote.prefix
    )
    return [each["Key"] for each in found.get("Uploads", ())]


@pytest.mark.parametrize(("step", "hit", "left"), KILLS)
def test_what_a_killed_upload_leaves_is_swept_and_all_is_uploaded(
    step: str, hit: int, left: bool, credentials: None, s3: S3Server, tmp_path: Path
) -> None:
    remote = Remote(s3, f"t-{secrets.token_hex(6)}")
    manifest = large_snapshot(tmp_path / "snapshots")
    argv = [sys.executable, str(_CHILD), s3.endpoint, s3.bucket, remote.prefix,
            str(tmp_path / "snapshots"), step, str(hit)]  # fmt: skip
    done = subprocess.run(argv, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == -signal.SIGKILL
    key = remote.snapshots().data_key(manifest)
    assert unended(remote) == [key] * left
    uploader = Uploader(
        remote.snapshots, tmp_path / "snapshots", SystemClock(), lambda _: None, lambda: 0.0
    )
    uploader.offer(manifest)
    uploader.turn()
    news = uploader.news()
    assert [each.fault for each in news if each.fault] == []
    assert sum(each.swept for each in news) == left
    assert unended(remote) == []
    assert remote.good() == [manifest]
    remote.snapshots().fetch(manifest, tmp_path / "back", lambda: None)  # checks its SHA-256
