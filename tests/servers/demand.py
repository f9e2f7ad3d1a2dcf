"""What a test says that cannot run without a real server: skip on a laptop, fail in CI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.cache import NotFetched, infra_is_required


def demand(*installed: Callable[[], Path]) -> None:
    """Go on when all are in the cache; else skip naming the command, or fail where CI is set."""
    try:
        for find in installed:
            find()
    except NotFetched as error:
        if infra_is_required():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
