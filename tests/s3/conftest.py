"""The real servers for the tests of this folder, all of which carry the marker ``s3``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.conftest import prepared, undisturbed
from tests.process.site import Site
from tests.process.state_rig import SOURCES
from tests.s3.remote_rig import (
    Rejects,
    Remote,
    copy_both,
    interrupted_with_remote,
    new_remote,
    point_to,
    rejects_in_dlq,
)
from tests.servers.s3_server import S3Server
from tests.servers.server_fixtures import *  # noqa: F403

__all__ = ["prepared", "undisturbed"]


def pytest_itemcollected(item: pytest.Item) -> None:
    """So that `make test-s3` forgets none."""
    item.add_marker("s3")


@pytest.fixture(scope="session")
def credentials(s3: S3Server) -> Iterator[None]:
    """The shared server's, where every client and every pipeline looks for them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment().items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def rejects(prepared: Site, tmp_path_factory: pytest.TempPathFactory) -> Rejects:
    """What the DLQ holds when nobody disturbs the run."""
    site = prepared.copy_to(tmp_path_factory.mktemp("rejects") / "site")
    site.finish()
    found = rejects_in_dlq(site.state)
    per_source = Counter(source for source, _, _, _ in found)
    assert min(per_source[source] for source in SOURCES) > 20, "the input must have bad records"
    assert max(found.values()) == 1
    return found


@pytest.fixture(scope="session")
def uploaded(
    prepared: Site, credentials: None, s3: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Site, Remote]:
    """A site killed in the middle of its input, with two remote snapshots."""
    return interrupted_with_remote(prepared, tmp_path_factory.mktemp("uploaded") / "site", s3)


@pytest.fixture
def both(uploaded: tuple[Site, Remote], tmp_path: Path) -> Iterator[tuple[Site, Remote]]:
    """A copy of it, its bucket included."""
    site, remote = copy_both(*uploaded, tmp_path / "site")
    yield site, remote
    site.clear()


@pytest.fixture
def recorded_with_remote(
    prepared: Site, credentials: None, s3: S3Server, tmp_path: Path
) -> Iterator[tuple[Site, Remote]]:
    """The filled broker, nothing consumed, and a remote of its own with nothing in it."""
    site, remote = prepared.copy_to(tmp_path / "site"), new_remote(s3)
    point_to(site, remote, every_s=0.3, event_time={"idle_after": "off"})
    yield site, remote
    site.clear()
