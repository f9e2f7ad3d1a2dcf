"""The supervisor's own log events: one closed list. Not the writing of them (journal.py)."""

from __future__ import annotations

from enum import StrEnum


class Event(StrEnum):
    """One decision or observation of the supervisor."""

    STARTED = "started"
    SPAWNED = "spawned"
    SPAWN_FAILED = "spawn_failed"
    READY = "ready"
    RUNNING = "running"
    DIED = "died"
    IN_FLIGHT = "in_flight"  # what a dead operator was working on
    SUSPECT = "suspect"  # it died of one batch again and again: the next life looks for the record
    QUARANTINED = "quarantined"  # a record that kills an operator
    QUARANTINE_REPAIRED = "quarantine_repaired"  # a torn last line was cut, or what is wrong
    BACKOFF = "backoff"
    SLOW = "slow"
    HUNG = "hung"
    OVERDUE = "overdue"  # asked to finish and did not in time
    RESTART_ASKED = "restart_asked"
    REWIND = "rewind"
    REWOUND = "rewound"
    REFUSED = "refused"  # an operator's exit code says that a restart cannot help
    BUDGET_SPENT = "budget_spent"
    DRAINING = "draining"
    KILLING = "killing"
    COMPLETE = "complete"
    STOPPED = "stopped"
    SIGNAL = "signal"
    CRASHED = "crashed"  # a fault of the supervisor itself
