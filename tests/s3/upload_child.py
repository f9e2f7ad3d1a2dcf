"""A process that kills itself after the second part of an upload. Started by test_s3_objects."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path

from sda_pipeline.state.objects import Fetched
from sda_pipeline.state.replica import S3Objects
from sda_pipeline.topology import S3Settings
from tests.contracts.objects_suite import MULTIPART_ABOVE, PART

_, endpoint, bucket, key, path = sys.argv
parts: list[None] = []


def moved() -> None:
    """One part was sent."""
    parts.append(None)
    if len(parts) == 2:
        os.kill(os.getpid(), signal.SIGKILL)


settings = S3Settings(bucket, "p", endpoint)
objects = S3Objects(settings, multipart_above=MULTIPART_ABOVE, part_bytes=PART)
file = Path(path)
digest = hashlib.sha256(file.read_bytes()).hexdigest()
objects.put_file(key, file, Fetched(file.stat().st_size, digest), moved)
