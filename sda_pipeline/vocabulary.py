"""Closed vocabularies: operator steps, reject kinds, log events, failpoints.

Imports nothing of ours.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Step(IntEnum):
    """What an operator is doing; carried in its heartbeat word."""

    START = 0
    RECOVER = 1
    WAIT = 2
    READ = 3
    COMPUTE = 4
    COMMIT = 5
    PUBLISH = 6
    RELEASE = 7
    SNAPSHOT = 8
    DRAIN = 9
    PAUSED = 10
    AWAY = 11  # the broker does not answer


class ErrorKind(StrEnum):
    """Why a record went to the DLQ (SPEC 1)."""

    DESERIALIZATION = "Deserialization"
    SCHEMA_MISMATCH = "SchemaMismatch"
    VALIDATION_FAILED = "ValidationFailed"
    PROCESSING_EXCEPTION = "ProcessingException"
    RETRY_BUDGET_EXHAUSTED = "RetryBudgetExhausted"
    QUARANTINED = "Quarantined"


class Level(StrEnum):
    """Alert levels, ordered by ``LEVEL_RANK``."""

    RED = "RED"
    YELLOW = "YELLOW"
    WATCH = "WATCH"


LEVEL_RANK = {None: 0, Level.WATCH: 1, Level.YELLOW: 2, Level.RED: 3}


class Effect(StrEnum):
    """What a record did at the subscriber (SPEC 5)."""

    RAISE = "raise"
    CHANGE = "change"
    CONFIRM = "confirm"
    WITHDRAW = "withdraw"
    REINSTATE = "reinstate"


# Failpoints by operator kind: one between every two durable steps of DESIGN 5. A name is used as
# "<operator>.<point>"; a test derives the list of kills from this table.
FAILPOINTS: dict[str, tuple[str, ...]] = {
    "source": (
        "after_consume", "after_reduce", "after_append", "after_sync", "after_publish",
        "after_broker_commit",
    ),
    "stateless": ("after_read", "after_transform", "after_publish", "after_release"),
    "correlator": (
        "after_read", "after_select", "after_step", "inside_commit", "after_commit", "after_board",
        "after_release", "after_publish",
    ),
    "alert-sink": (
        "after_read", "after_dedup", "inside_commit", "after_commit", "after_board",
        "after_release", "after_deliver",
    ),
    "subscriber": ("after_read", "inside_commit", "after_commit", "after_board", "after_release"),
    "dlq-sink": ("after_read", "after_append", "after_sync", "after_board", "after_release"),
    "replicator": ("after_begin", "inside_write", "after_write", "after_rename"),
}  # fmt: skip
