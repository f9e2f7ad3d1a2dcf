"""Count a recovery of the correlator's store, by its rung: durably, then on the board."""

from __future__ import annotations

from sda_pipeline.errors import StateCorrupt
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.state.recovery import Rung
from sda_pipeline.state.recovery_counts import read_recoveries, write_recoveries


def count_recovery(worker: Worker, rung: Rung) -> None:
    """One more; the words show all that were ever counted. A count is not worth a recovery: what
    keeps it from being read or written is told, no more.
    """
    state = worker.topology.state
    counts: dict[str, int] = {}
    try:
        counts = read_recoveries(state)
    except (StateCorrupt, OSError) as error:
        worker.event("recovery_not_counted", why=str(error))
    counts[rung] = counts.get(rung, 0) + 1
    try:
        write_recoveries(state, counts)
    except OSError as error:
        worker.event("recovery_not_counted", why=str(error))
    for each in Rung:
        worker.board.set(f"recovered_{each}", counts.get(each, 0))
