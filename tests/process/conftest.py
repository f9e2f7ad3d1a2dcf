"""One recorded input and its undisturbed run, shared by the tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process import verdict
from tests.process.flow import Run
from tests.process.site import Site, prepare
from tests.process.state_rig import stop_in_the_middle


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A filled broker that nothing has consumed yet."""
    return prepare(tmp_path_factory.mktemp("prepared") / "site")


@pytest.fixture(scope="session")
def undisturbed(prepared: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Canonical finals of a run nobody disturbs."""
    site = prepared.copy_to(tmp_path_factory.mktemp("undisturbed") / "site")
    site.finish()
    found = verdict.finals(site)
    assert len(found) >= 5, f"the input must lead to alerts, got {len(found)}:\n{site.story()}"
    verdict.check(site, found)
    return found


@pytest.fixture
def recorded(prepared: Site, tmp_path: Path) -> Iterator[Site]:
    """The same input, recorded but not yet in a broker."""
    site = prepared.copy_to(tmp_path / "site", without="broker")
    yield site
    site.clear()


@pytest.fixture
def run(recorded: Site) -> Iterator[Run]:
    """A running pipeline; ``run.play()`` lets the recording flow into it."""
    run = Run(recorded)
    yield run
    run.close()


@pytest.fixture
def site(prepared: Site, tmp_path: Path) -> Iterator[Site]:
    """A fresh copy of the prepared input."""
    site = prepared.copy_to(tmp_path / "site")
    yield site
    site.clear()


@pytest.fixture(scope="session")
def interrupted(prepared: Site, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Killed twice in the middle: sources ahead of the correlator, sink ahead of the snapshot."""
    site = prepared.copy_to(tmp_path_factory.mktemp("interrupted") / "site")
    stop_in_the_middle(site, snapshot=True)
    site.write_topology(checkpoint={"every_s": 60})
    stop_in_the_middle(site, snapshot=False)
    return site
