"""What a test says that cannot run here: skip on a laptop, fail in CI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from sda_pipeline.errors import Unreachable
from tests.servers.cache import NotFetched, infra_is_required
from tests.servers.small_disk import SmallDisk, small_disk


def lacking(what: str) -> NoReturn:
    """Skip loudly, naming what is needed; an environment that promises it fails."""
    if infra_is_required():
        pytest.fail(f"needs {what}", pytrace=False)
    pytest.skip(f"needs {what}")


def demand(*installed: Callable[[], Path]) -> None:
    """Go on when all real servers are in the cache."""
    try:
        for find in installed:
            find()
    except NotFetched as error:
        if infra_is_required():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@contextmanager
def demanded_disk(directory: Path, size: str) -> Iterator[SmallDisk]:
    """``small_disk``, where this process may mount one."""
    with ExitStack() as closing:
        try:
            disk = closing.enter_context(small_disk(directory, size))
        except Unreachable as error:
            lacking(str(error))
        yield disk
