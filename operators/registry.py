"""Which loop runs which kind of operator.

Imported lazily so that a process loads only what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from sda_pipeline.runtime.worker import Worker

_MODULES = {
    "radar-source": "source",
    "optical-source": "source",
    "isl-source": "source",
    "normalize": "normalize",
    "prioritize": "prioritize",
    "correlator": "correlator",
    "alert-sink": "alert_sink",
    "subscriber": "subscriber",
    "dlq-sink": "dlq_sink",
    "replicator": "replicator",
}


def loop_of(kind: str) -> Callable[[Worker], None]:
    """The ``run`` function of the operator kind."""
    run: Callable[[Worker], None] = import_module(f"operators.{_MODULES[kind]}").run
    return run
