"""The object-store contract on the reference in a directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contracts.directory_objects import HALF, DirectoryObjects
from tests.contracts.objects_suite import ObjectsSuite


class TestDirectoryObjects(ObjectsSuite):
    """Every promise of the port."""

    @pytest.fixture
    def objects(self, tmp_path: Path) -> DirectoryObjects:
        return DirectoryObjects(tmp_path / "objects")

    @pytest.fixture
    def leave_upload(self, objects: DirectoryObjects) -> Callable[[str], None]:
        def leave(key: str) -> None:
            half = objects.root / (key + HALF)
            half.parent.mkdir(parents=True, exist_ok=True)
            half.write_bytes(b"half")

        return leave
