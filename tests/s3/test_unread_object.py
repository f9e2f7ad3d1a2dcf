"""One object of the real store that is listed and never arrives whole, whoever asks: the next older
snapshot serves, and nothing else differs. The proxy cuts each connection after so many bytes, and
only that object is larger.
"""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from sda_pipeline.state.manifest import Manifest
from tests.process.site import Site
from tests.process.state_rig import check, remove, told
from tests.s3.remote_rig import Remote, point_to
from tests.servers.fault_proxy import FaultProxies

pytestmark = pytest.mark.process

HEADERS = 20_000  # more than all that comes before the data on one connection


def grow_newest(remote: Remote) -> Manifest:
    """Replace the newest snapshot by a larger one, with a manifest that says so."""
    newest = remote.good()[0]
    data = remote.read(remote.key(0, "snap"))
    data += bytes(len(data) + 10 * HEADERS)
    larger = msgspec.structs.replace(
        newest, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    remote.delete(remote.key(0, "snap"))
    remote.write(remote.snapshots().data_key(larger), data)
    remote.write(remote.snapshots().manifest_key(larger.sequence), msgspec.json.encode(larger))
    assert remote.good()[0] == larger
    return larger


@pytest.mark.parametrize("flags", [(), ("--allow-fresh",)], ids=["plain", "allow-fresh"])
def test_the_older_one_serves(
    flags: tuple[str, ...],
    both: tuple[Site, Remote],
    proxies: FaultProxies,
    undisturbed: dict[str, str],
) -> None:
    site, remote = both
    newest, older = grow_newest(remote), remote.good()[1]
    proxy = proxies.add(remote.server.port.address)
    point_to(site, remote, every_s=60, endpoint=f"http://{proxy.address}")
    proxy.cut_after(older.size_bytes + HEADERS, "downstream")
    assert newest.size_bytes > older.size_bytes + 2 * HEADERS
    remove(site.state)
    site.finish(*flags)
    recovered = told(site, "correlator", "recovered")[-1]
    assert (recovered["path"], recovered["snapshot"]) == ("remote", older.sequence), site.story()
    (failed,) = told(site, "correlator", "recovery_rung_failed")
    assert (failed["rung"], failed["snapshot"]) == ("remote", newest.sequence)
    assert told(site, "correlator", "recovery_waits_for_remote"), "it is tried more than once"
    check(site, undisturbed)
