"""What ``Worker.ready`` means to the process: told once, and the collector walks what comes."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sda_pipeline.runtime.worker import Worker


@pytest.fixture(autouse=True)
def _collector_as_it_was() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_what_was_loaded_is_not_walked_and_what_comes_is() -> None:
    gc.disable()  # as operators/__main__.py does
    loaded = [[number] for number in range(10_000)]
    read, write = os.pipe()
    told: list[str] = []
    worker = SimpleNamespace(
        name="radar", board=SimpleNamespace(set=lambda word, _: told.append(word)),
        launch=SimpleNamespace(ready=write, incarnation=1),
        fail=lambda _: None, event=lambda name, **_: told.append(name),
    )  # fmt: skip
    Worker.ready(cast("Any", worker))
    assert (os.read(read, 2), told) == (b"R", ["radar.ready", "ready"])
    os.close(read)
    assert gc.isenabled()
    walked = {id(item) for item in gc.get_objects()}
    assert not any(id(item) in walked for item in loaded)
