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


class RemoteFault(IntEnum):
    """Why the remote store was last not usable; the number is a board word."""

    NONE = 0
    UNREACHABLE = 1  # refused, cut, no such host
    TIMED_OUT = 2
    OVERLOADED = 3  # it answers 5xx or "slow down"
    FULL = 4
    DENIED = 5  # credentials, permissions, no such bucket
    MISSING = 6  # an object that should be there is not
    CONFLICT = 7  # another writer's manifest stands in the place of ours
    DAMAGED = 8  # what was read, or was to be uploaded, is not what its manifest says
    UNEXPECTED = 9  # a newer release's objects, or a fault of ours: the log has it whole


class BreakerState(IntEnum):
    """Whether the remote store is called; the number is a board word."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2  # one trial


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
    # Of the replicator as well, where a remote is configured: "replicator.<point>"; and of the
    # correlator, when it recovers from there: "correlator.<point>".
    "upload": (
        "upload_listed", "upload_part", "upload_data", "upload_manifest", "upload_pruned",
        "upload_told",
    ),
    "remote-rung": ("remote_listed", "remote_fetched"),
    "reprocess": ("after_plan", "after_intent", "after_produce", "after_ack", "after_done"),
    "reprocess-migrate": (
        "inside_rotate", "after_rotate", "after_write", "after_sync", "after_rename",
    ),
}  # fmt: skip

# The same for what an operator does until it goes on: one after every step that changes a file.
# "recovered" is right before READY. A test kills the tree at each of them.
RECOVERY_FAILPOINTS: dict[str, tuple[str, ...]] = {
    "source": (
        "recovery_log_repaired", "recovery_log_aside", "recovery_log_open", "recovered",
        "recovery_republished",
    ),
    "stateless": ("recovered",),
    "correlator": (
        "recovery_snapshot_aside", "recovery_copied", "recovery_moved_aside",
        "recovery_installed", "recovery_epoch", "recovered",
    ),
    "alert-sink": ("recovery_open", "recovered"),
    "subscriber": ("recovery_open", "recovered"),
    "dlq-sink": (
        "recovery_cut", "recovery_damage_aside", "recovery_damage_marks", "recovery_damage_gone",
        "recovery_synced", "recovered",
    ),
    "replicator": ("recovered",),
}  # fmt: skip
