"""Where rows will be classed High or Low and shed before the correlator.

Every row is High for now.
"""

from __future__ import annotations

from operators.forward import forward
from sda_pipeline.runtime.worker import Worker


def run(worker: Worker) -> None:
    """Forward every frame, with every row, until drained."""
    forward(worker)
