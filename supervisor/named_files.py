"""What a topology names beside catalogue and sensors: whether it is there. Reads no secret."""

from __future__ import annotations

import os
from collections.abc import Iterator

from sda_pipeline.topology import Topology

_FILES = ("ca_file", "certificate_file", "key_file", "password_file")


def missing(topology: Topology) -> list[str]:
    """A line for each file of the section ``kafka`` that a start could not read."""
    found = []
    for key in _FILES:
        path = getattr(topology.kafka, key)
        if path is None:
            continue
        if not path.is_file():
            found.append(f"kafka.{key}: {path} does not exist")
        elif not os.access(path, os.R_OK):
            found.append(f"kafka.{key}: {path} is not readable")
    return found


def notes(topology: Topology) -> Iterator[str]:
    """What this environment lacks and the one of a start must have."""
    variable = topology.kafka.password_env
    if variable and variable not in os.environ:
        yield f"{variable} is not set here; where the pipeline is started it must be"
