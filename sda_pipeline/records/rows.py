"""Row v1: what one observation says about its object, packed (SPEC 3). Not how it is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sda_pipeline.limits import ROW_BYTES

ROW = np.dtype(
    [
        ("id", "<u8", (2,)),  # UUID, big-endian halves
        ("t", "<i8"),  # event time, ns
        ("ingest", "<i8"),  # wall clock at consume, ns
        ("offset", "<i8"),
        ("info", "<f8", (21,)),  # L = H'R^-1 H, lower triangle by rows
        ("vec", "<f8", (6,)),  # b = H'R^-1 nu
        ("sat", "<u4"),
        ("partition", "<i4"),
        ("nis", "<f4"),
        ("sensor", "<u2"),  # registry index
        ("kind", "u1"),  # 1 radar, 2 optical, 3 isl
        ("flags", "u1"),  # bit 0: Low priority
    ]
)
FLAG_LOW = 1

Rows = npt.NDArray[Any]  # structured array of ROW

assert ROW.itemsize == ROW_BYTES, "the row is part of the log format"


def uuid_text(halves: npt.NDArray[np.uint64]) -> str:
    """The two u8 halves of a row's ``id`` as lower-case UUID text."""
    digits = f"{int(halves[0]):016x}{int(halves[1]):016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
