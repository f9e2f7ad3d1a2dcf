"""What sink and subscriber remember about an alert, as plain values. No decisions."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from sda_pipeline.records.alert import EPOCH_SHIFT
from sda_pipeline.vocabulary import Effect


class State(StrEnum):
    """Where an alert stands at its reader."""

    NONE = "none"  # never raised here, though a retract of it may have been stored
    ACTIVE = "active"
    WITHDRAWN = "withdrawn"


class Stored(NamedTuple):
    """The newest accepted record of an alert. ``level`` is None unless active."""

    state: State
    sequence: int
    level: str | None
    final: bool
    closes_ns: int


UNSEEN = Stored(State.NONE, 0, None, final=False, closes_ns=0)


class Change(NamedTuple):
    """What one outbox entry says about one alert: a lone record, or the insert of a pair.

    ``level`` is None for a lone retract. ``ingest_ns`` is the newest contributing row's, when
    known.
    """

    alert_id: str
    sequence: int
    level: str | None
    final: bool
    closes_ns: int
    ingest_ns: int | None = None


class Action(NamedTuple):
    """One row of the action ledger. ``at_ns`` is the subscriber's wall clock."""

    alert_id: str
    sequence: int
    effect: Effect
    level: str | None
    final: bool
    position: int
    at_ns: int
    ingest_ns: int | None


def epoch_of(number: int) -> int:
    """The epoch of an outbox position or an alert sequence."""
    return number >> EPOCH_SHIFT
