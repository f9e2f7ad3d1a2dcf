"""Rows that the correlator must skip because they kill it (DESIGN 11). Pure; not who decided so."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from sda_pipeline.records.frames import Frame
from sda_pipeline.records.rows import Rows

Coordinates = tuple[int, int, int]  # generation, partition, offset


def generations_of(frame: Frame) -> dict[int, int]:
    """The generation of each partition that the frame's rows may come from."""
    return {part.partition: part.generation for part in frame.parts}


def without(frame: Frame, coordinates: Collection[Coordinates] | None) -> Rows:
    """The frame's rows but for those at ``coordinates``."""
    if not coordinates or not len(frame.rows):
        return frame.rows
    generations = generations_of(frame)
    gone = np.zeros(len(frame.rows), np.bool_)
    for generation, partition, offset in coordinates:
        if generations.get(partition) == generation:
            gone |= (frame.rows["partition"] == partition) & (frame.rows["offset"] == offset)
    return frame.rows[~gone] if gone.any() else frame.rows
