"""Where the simulation enters: names of the pipeline's modules, bound to doubles while it runs.

The pipeline knows nothing of it. Everything not named here is the real thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from operators import (
    alert_sink,
    correlator,
    dlq_sink,
    guard,
    outbox_input,
    reject_cursor,
    source,
    source_open,
)
from operators.core import alerts, correlation, schedule
from sda_pipeline.limits import PANE_NS
from sda_pipeline.ring import memory
from sda_pipeline.state import alert_log, alert_view, intact, store, subscriber_store
from supervisor import wiring
from tests.simulation import shortcuts, sim_databases, sim_memory
from tests.simulation.sim_disk import SimDlqFiles, SimSourceLog
from tests.simulation.story import TableReducer

SEAMS: list[tuple[Any, str, Any]] = [
    # shared memory
    *((memory, name, getattr(sim_memory, name)) for name in sim_memory.DOUBLED),
    *((wiring, name, getattr(sim_memory, name))
      for name in ("Mapping", "create_ring", "close_ring")),
    # stores
    (store, "open_environment", sim_databases.open_environment),
    (intact, "damage_of", sim_databases.damage_of),
    *((module, "SqliteFile", sim_databases.SimSqliteFile)
      for module in (alert_log, subscriber_store)),
    *((module, "reading", sim_databases.reading) for module in (alert_view, subscriber_store)),
    (source_open, "SourceLog", SimSourceLog),
    (dlq_sink, "DlqFiles", SimDlqFiles),
    # a probe tries records in a child process; here no record kills, so it finds nothing
    (guard, "first_killer", lambda *_, **__: None),
    # what is computed once for all schedules
    (source, "Reducer", TableReducer),
    (source, "load_inputs", lambda _topology: shortcuts.inputs()),
    (correlator, "load_inputs", lambda _topology: shortcuts.inputs()),
    (schedule, "schedule_pane", shortcuts.pane_schedule),
    (correlation, "evaluate", shortcuts.evaluate),
    (alerts, "_object", shortcuts.object_state),
    # each pane of the schedule ahead is a step of its own, and none of these schedules needs many
    (correlation, "SCHEDULE_AHEAD_NS", 3 * PANE_NS),
]  # fmt: skip

# Bounds that chance varies from schedule to schedule, so that batches and chunks are cut anywhere.
BOUNDS: list[tuple[Any, str, tuple[int, ...]]] = [
    (correlator, "READ_BYTES_MAX", (1, 6_000, 20_000, 1_000_000)),
    (outbox_input, "BATCH_ENTRIES_MAX", (1, 2, 5, 256)),
    (alert_sink, "DELIVER_ENTRIES_MAX", (1, 3, 256)),
    (dlq_sink, "READ_BYTES_MAX", (1, 300, 100_000)),
    (reject_cursor, "REJECT_CHUNK_BYTES", (150, 400, 100_000)),
]


@contextmanager
def simulated() -> Iterator[None]:
    """Inside, the pipeline's modules run on the doubles; schedules may also set the ``BOUNDS``."""
    with ExitStack() as stack:
        for module, name, double in SEAMS:
            stack.enter_context(patch.object(module, name, double))
        for module, name, _ in BOUNDS:
            stack.enter_context(patch.object(module, name, getattr(module, name)))
        stack.enter_context(patch.object(source_open, "open_consumer"))  # a schedule's own broker
        yield
