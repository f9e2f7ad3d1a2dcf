"""The object-store port: five verbs and what their failures mean. Not an implementation
(``replica.py``), nor what the objects are (``remote.py``).

Put, get, list, delete, abort; put and get have a form for files and one for small objects.
Names are keys with slashes. No call waits without a bound.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from sda_pipeline.errors import Unreachable
from sda_pipeline.vocabulary import RemoteFault

Moved = Callable[[], None]  # called after each piece that was sent or received


class RemoteError(Unreachable):
    """The store could not do it. ``passing``: the same call may succeed a little later."""

    def __init__(
        self, action: str, why: str, fault: RemoteFault, hint: str = "", *, passing: bool = True
    ) -> None:
        self.fault, self.passing = fault, passing
        super().__init__(action, why, hint or "check the store, and its endpoint in the topology")


class Found(NamedTuple):
    """One object of a listing."""

    key: str
    size_bytes: int


class Fetched(NamedTuple):
    """What is to be sent, or was received, as counted and hashed on the way."""

    size_bytes: int
    sha256: str


class Objects(Protocol):
    """One bucket. Every verb raises RemoteError, ``passing`` or not."""

    def put_file(self, key: str, path: Path, expected: Fetched, moved: Moved) -> None:
        """Store a whole file, replacing what is there.

        The object appears whole or not at all. StateCorrupt when the file is not what is
        ``expected``: nothing is then stored. OSError when it cannot be read.
        """

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Store a small object where there is none. False when something else is there.

        What is there and equals ``data`` is our own: its reply was lost.
        """

    def get(self, key: str) -> bytes:
        """A small object. RemoteError MISSING when there is none, or it is too large for that."""

    def get_file(self, key: str, target: Path, moved: Moved) -> Fetched:
        """An object into a new file, synced. OSError when the file cannot be written."""

    def list(self, prefix: str) -> list[Found]:
        """Every object whose key begins with ``prefix``, in key order."""

    def delete(self, key: str) -> None:
        """Delete an object; none there is fine."""

    def abort_uploads(self, prefix: str) -> int:
        """Drop what uploads that never ended have left below ``prefix``; returns how many.

        Only for the one writer of the prefix, while it uploads nothing.
        """
