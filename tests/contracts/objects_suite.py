"""What every object store behind the port must do. Not a test module: implementations subclass it.

A subclass gives a fixture ``objects`` (the store under test, empty) and ``leave_upload``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sda_pipeline.errors import StateCorrupt
from sda_pipeline.state.objects import Fetched, Found, Objects, RemoteError
from sda_pipeline.vocabulary import RemoteFault

MULTIPART_ABOVE = 6 << 20
PART = 5 << 20
SIZES = (0, 1, 1000, MULTIPART_ABOVE, MULTIPART_ABOVE + 1, 2 * PART + 7)


def made(path: Path, size: int) -> tuple[Path, Fetched]:
    """A file of random bytes, and what a transfer of it must say."""
    data = os.urandom(size)
    path.write_bytes(data)
    return path, Fetched(size, hashlib.sha256(data).hexdigest())


class ObjectsSuite:
    """The port's promises."""

    @pytest.mark.parametrize("size", SIZES)
    def test_a_file_comes_back_as_it_was(self, objects: Objects, tmp_path: Path, size: int) -> None:
        path, expected = made(tmp_path / "there", size)
        moved: list[None] = []
        objects.put_file("a/1.snap", path, expected, lambda: moved.append(None))
        assert len(moved) == max(1, -(-size // PART) if size > MULTIPART_ABOVE else 1)
        back = tmp_path / "back"
        assert objects.get_file("a/1.snap", back, lambda: None) == expected
        assert back.read_bytes() == path.read_bytes()
        assert objects.list("a/") == [Found("a/1.snap", size)]

    def test_a_put_replaces(self, objects: Objects, tmp_path: Path) -> None:
        objects.put_file("a/1.snap", *made(tmp_path / "1", 10), lambda: None)
        path, expected = made(tmp_path / "2", 20)
        objects.put_file("a/1.snap", path, expected, lambda: None)
        assert objects.get_file("a/1.snap", tmp_path / "back", lambda: None) == expected

    @pytest.mark.parametrize("size", [1000, 2 * PART + 7])
    def test_a_file_that_is_not_as_expected_replaces_nothing(
        self, objects: Objects, tmp_path: Path, size: int
    ) -> None:
        there, before = made(tmp_path / "there", size)
        objects.put_file("a/1.snap", there, before, lambda: None)
        path, other = made(tmp_path / "damaged", size)
        for expected in (before, Fetched(size - 1, other.sha256)):
            with pytest.raises(StateCorrupt, match="not what its manifest says"):
                objects.put_file("a/1.snap", path, expected, lambda: None)
        assert objects.get_file("a/1.snap", tmp_path / "back", lambda: None) == before
        assert objects.abort_uploads("a/") == 0, "and leaves nothing behind"

    def test_only_the_first_is_put_if_absent(self, objects: Objects) -> None:
        assert objects.put_if_absent("a/1.json", b"first")
        assert not objects.put_if_absent("a/1.json", b"other")
        assert objects.get("a/1.json") == b"first"

    def test_ones_own_write_is_known_again(self, objects: Objects) -> None:
        # As after a lost reply: it is there, and it is ours.
        assert objects.put_if_absent("a/1.json", b"ours")
        assert objects.put_if_absent("a/1.json", b"ours")

    def test_what_is_not_there_is_missing(self, objects: Objects, tmp_path: Path) -> None:
        calls: list[Callable[[], object]] = [
            lambda: objects.get("a/none"),
            lambda: objects.get_file("a/none", tmp_path / "back", lambda: None),
        ]
        for call in calls:
            with pytest.raises(RemoteError) as error:
                call()
            assert error.value.fault is RemoteFault.MISSING
            assert not error.value.passing

    def test_a_small_object_is_small(self, objects: Objects, tmp_path: Path) -> None:
        objects.put_file("a/1.snap", *made(tmp_path / "1", (1 << 20) + 1), lambda: None)
        with pytest.raises(RemoteError, match="over 1048576") as error:
            objects.get("a/1.snap")
        assert error.value.fault is RemoteFault.DAMAGED

    def test_a_listing_has_all_of_a_prefix_in_order(self, objects: Objects) -> None:
        for key in ("b/2", "a/3", "a/10", "ab/1"):
            objects.put_if_absent(key, key.encode())
        assert objects.list("a/") == [Found("a/10", 4), Found("a/3", 3)]
        assert objects.list("none/") == []

    def test_a_delete_is_done_once_or_twice(self, objects: Objects) -> None:
        objects.put_if_absent("a/1", b"x")
        objects.delete("a/1")
        objects.delete("a/1")
        assert objects.list("a/") == []

    def test_a_half_upload_is_no_object_and_is_swept(
        self, objects: Objects, leave_upload: Callable[[str], None]
    ) -> None:
        leave_upload("a/1.snap")
        leave_upload("b/1.snap")
        assert objects.list("a/") == []
        assert objects.abort_uploads("a/") == 1
        assert objects.abort_uploads("a/") == 0
        assert objects.abort_uploads("b/") == 1

    def test_a_file_that_is_gone_is_the_callers_own_fault(
        self, objects: Objects, tmp_path: Path
    ) -> None:
        with pytest.raises(FileNotFoundError):
            objects.put_file("a/1.snap", tmp_path / "none", Fetched(1, ""), lambda: None)
