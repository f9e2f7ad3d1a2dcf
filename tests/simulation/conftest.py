"""A disk of its own for each test of a double."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.mortal import Mortal


@pytest.fixture
def mortal() -> Iterator[Mortal]:
    mortal = Mortal()
    yield mortal
    mortal.disk.forget()
