"""Pause before the disk is full, resume by itself.

Not the reaction to a full disk: an error does that.
"""

from __future__ import annotations

import os
from pathlib import Path

from sda_pipeline.limits import DISK_RESUME_RATIO, SECOND_NS
from sda_pipeline.runtime.reporting import Report

LOOK_EVERY_NS = SECOND_NS


class DiskReserve:
    """Whether the state's file system has its reserve; below it stays False until 1.5 times that
    is free. ``report`` is told of each change.
    """

    def __init__(self, path: Path, reserve_bytes: int, report: Report) -> None:
        self._path, self._reserve, self._report = path, reserve_bytes, report
        self._enough, self._looked_at = True, -LOOK_EVERY_NS

    def enough(self, now_ns: int) -> bool:
        """Look at most once a second."""
        if now_ns - self._looked_at >= LOOK_EVERY_NS:
            self._looked_at = now_ns
            stat = os.statvfs(self._path)
            free = stat.f_bavail * stat.f_frsize
            wanted = self._reserve * (1.0 if self._enough else DISK_RESUME_RATIO)
            if (free >= wanted) != self._enough:
                self._enough = not self._enough
                event = "disk_reserve_back" if self._enough else "disk_reserve_reached"
                self._report(event, free_bytes=free, reserve_bytes=self._reserve)
        return self._enough
