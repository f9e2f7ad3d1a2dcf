"""Whether an outbox entry is the next one, a known one, or beyond a gap. Pure.

The rule, in the order it is asked (positions are ``epoch << 32 | n``, 0 stands for an empty store):

1. at or below the stored position: KNOWN, a repeat after a restart; dropped and counted;
2. n follows in the same epoch: NEXT;
3. n = 1 of a higher epoch: NEXT. Whoever starts an epoch re-emits what it holds, from n = 1, so
   nothing of the older epoch that is missing here is missed;
4. it stands at the announced horizon: NEXT. Only the alert sink announces one, to the subscriber,
   when it starts and no longer holds the entries in between (it prunes what was confirmed, so this
   happens only after the subscriber's store was lost or put back); logged by the subscriber;
5. anything else: GAP, a rewind. In particular an empty store does not accept n > 1: an empty alert
   sink waits for the correlator to take a new epoch, an empty subscriber for the sink to restart
   and announce a horizon.
"""

from __future__ import annotations

from enum import Enum

from sda_pipeline.records.alert import KIND_CLOSED, KIND_RECORDS, NUMBER_MASK
from sda_pipeline.state.alert_state import epoch_of

KIND_HORIZON = 3  # alert-sink -> subscriber only: "entries before this position are no longer held"
NO_HORIZON = 0

assert KIND_HORIZON not in {KIND_RECORDS, KIND_CLOSED}


class Place(Enum):
    """Where an entry stands relative to what is stored."""

    NEXT = "next"
    KNOWN = "known"
    GAP = "gap"


def place_of(stored: int, position: int, horizon: int = NO_HORIZON) -> Place:
    """Where ``position`` stands for a reader that has ``stored`` and was told of ``horizon``."""
    if position <= stored:
        return Place.KNOWN
    same_epoch = epoch_of(position) == epoch_of(stored)
    follows = position == stored + 1 if same_epoch else position & NUMBER_MASK == 1
    return Place.NEXT if follows or position == horizon else Place.GAP
