"""A process that uploads one snapshot with the pipeline's own uploader and bounds, and kills itself
at a step. Started by test_kills_in_parts.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from operators.uploader import Uploader
from sda_pipeline.clock import SystemClock
from sda_pipeline.state.remote import RemoteSnapshots
from sda_pipeline.state.replica import S3Objects
from sda_pipeline.state.snapshot import manifests
from sda_pipeline.topology import S3Settings

_, endpoint, bucket, prefix, directory, point, number = sys.argv
hits: list[str] = []


def hit(name: str) -> None:
    """Die at the wanted hit of the wanted step."""
    hits.append(name)
    if hits.count(point) == int(number):
        os.kill(os.getpid(), signal.SIGKILL)


settings = S3Settings(bucket, prefix, endpoint)
uploader = Uploader(
    lambda: RemoteSnapshots(S3Objects(settings), prefix, "sda", settings.keep),
    Path(directory), SystemClock(), hit, lambda: 0.0,
)  # fmt: skip
uploader.offer(manifests(Path(directory))[0])
uploader.turn()
