"""A file system of its own size under a directory, to be filled and to grow. Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sda_pipeline.errors import Unreachable

FILLER = "filler"  # the file that fills it


class SmallDisk:
    """See ``small_disk``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def fill(self) -> None:
        """Leave two blocks."""
        room = os.statvfs(self.directory)
        with (self.directory / FILLER).open("ab") as filler:
            filler.write(bytes(max(0, room.f_bavail - 2) * room.f_frsize))

    def grow(self, size: str) -> None:
        """To ``size`` in all, as ``mount`` writes it: ``64m``."""
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.directory)], check=True)


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[SmallDisk]:
    """Make ``directory`` one of ``size``, gone afterwards. Unreachable without the right to."""
    directory.mkdir(mode=0o700, exist_ok=True)
    options = f"size={size},mode=700"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        why = "it needs the right to mount a file system"
        raise Unreachable(f"mount {directory}", why, done.stderr.strip() or "run it as root")
    try:
        yield SmallDisk(directory)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
