"""An object store in a directory: the reference for the contract, and the unit tests' store.

``fault`` is raised by the next calls, as often as it is listed.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from sda_pipeline.errors import StateCorrupt
from sda_pipeline.limits import REMOTE_MANIFEST_BYTES_MAX
from sda_pipeline.state.objects import Fetched, Found, Moved, RemoteError
from sda_pipeline.vocabulary import RemoteFault
from tests.contracts.objects_suite import MULTIPART_ABOVE, PART

HALF = ".half"


class DirectoryObjects:
    """Keys are paths below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.faults: list[RemoteError] = []
        self.calls: list[str] = []

    def _begin(self, call: str) -> None:
        self.calls.append(call)
        if self.faults:
            raise self.faults.pop(0)

    def put_file(self, key: str, path: Path, expected: Fetched, moved: Moved) -> None:
        data = path.read_bytes()
        if (len(data), hashlib.sha256(data).hexdigest()) != expected:
            raise StateCorrupt(f"upload {path}", "it is not what its manifest says")
        self._begin(f"put {key}")
        step = PART if len(data) > MULTIPART_ABOVE else max(1, len(data))
        half = self._place(key + HALF)
        half.parent.mkdir(parents=True, exist_ok=True)
        with half.open("wb") as file:
            for at in range(0, max(1, len(data)), step):
                file.write(data[at : at + step])
                moved()
        half.rename(self._place(key))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._begin(f"put_if_absent {key}")
        place = self._place(key)
        if place.exists():
            return place.read_bytes() == data
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        return True

    def get(self, key: str) -> bytes:
        self._begin(f"get {key}")
        data = self._there(key).read_bytes()
        if len(data) > REMOTE_MANIFEST_BYTES_MAX:
            why = f"it has {len(data)} bytes, over {REMOTE_MANIFEST_BYTES_MAX}"
            raise RemoteError(f"get {key}", why, RemoteFault.DAMAGED, passing=False)
        return data

    def get_file(self, key: str, target: Path, moved: Moved) -> Fetched:
        self._begin(f"get_file {key}")
        data = self._there(key).read_bytes()
        target.write_bytes(data)
        moved()
        return Fetched(len(data), hashlib.sha256(data).hexdigest())

    def list(self, prefix: str) -> list[Found]:
        self._begin(f"list {prefix}")
        return [
            Found(key, path.stat().st_size)
            for key, path in self._below(prefix)
            if not key.endswith(HALF)
        ]

    def delete(self, key: str) -> None:
        self._begin(f"delete {key}")
        self._place(key).unlink(missing_ok=True)

    def abort_uploads(self, prefix: str) -> int:
        self._begin(f"abort_uploads {prefix}")
        halves = [path for key, path in self._below(prefix) if key.endswith(HALF)]
        for path in halves:
            path.unlink()
        return len(halves)

    def _place(self, key: str) -> Path:
        return self.root / key

    def _there(self, key: str) -> Path:
        place = self._place(key)
        if not place.exists():
            raise RemoteError(f"get {key}", "there is none", RemoteFault.MISSING, passing=False)
        return place

    def _below(self, prefix: str) -> list[tuple[str, Path]]:
        found = [
            (os.fspath(path.relative_to(self.root)), path)
            for path in self.root.rglob("*")
            if path.is_file()
        ]
        return sorted((key, path) for key, path in found if key.startswith(prefix))
