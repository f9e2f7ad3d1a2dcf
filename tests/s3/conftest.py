"""The real servers for the tests of this folder, all of which carry the marker ``s3``."""

from __future__ import annotations

import pytest

from tests.servers.server_fixtures import *  # noqa: F403


def pytest_itemcollected(item: pytest.Item) -> None:
    """So that `make test-s3` forgets none."""
    item.add_marker("s3")
