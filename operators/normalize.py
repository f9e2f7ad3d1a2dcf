"""Fan-in of the sources, in arrival order; bytes are forwarded unread. Rows are already normal at
the source.
"""

from __future__ import annotations

from operators.forward import forward
from sda_pipeline.runtime.worker import Worker


def run(worker: Worker) -> None:
    """Forward every source's frames to one ring until drained."""
    forward(worker)
