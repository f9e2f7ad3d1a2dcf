"""Which operators die of the same batch again and again, and of which record (DESIGN 11). Pure.

A death counts when something was in flight and nobody asked for it. Progress since (the operator
has made something durable) ends the row: what it died of before is behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sda_pipeline.limits import DEATHS_BEFORE_PROBE
from sda_pipeline.runtime.in_flight import BatchAt, Culprit


class Blame(NamedTuple):
    """What a death is put down to. ``deaths``: so many in a row at one batch, this one included."""

    deaths: int = 0
    named: bool = False  # a record was found; it is quarantined now


NOBODY = Blame()


@dataclass
class _Trouble:
    batch: BatchAt
    progress: int
    deaths: int


class Suspicions:
    """By operator: the batch it last died of and how often. ``progress`` is any number that changes
    when the operator has made its input durable.
    """

    def __init__(self) -> None:
        self._troubles: dict[str, _Trouble] = {}

    def died(self, name: str, found: BatchAt | Culprit | None, progress: int) -> Blame:
        """An operator died with this in flight."""
        trouble = self._troubles.get(name)
        if isinstance(found, Culprit):
            self._troubles.pop(name, None)
            return Blame(1 + (trouble.deaths if trouble else 0), named=True)
        if found is None:
            return NOBODY
        if trouble is not None and (trouble.batch, trouble.progress) == (found, progress):
            trouble.deaths += 1
        else:
            trouble = self._troubles[name] = _Trouble(found, progress, 1)
        return Blame(trouble.deaths)

    def suspect(self, name: str, progress: int) -> bool:
        """Whether the next life must try the records of its first batch one by one."""
        trouble = self._troubles.get(name)
        return (
            trouble is not None
            and trouble.progress == progress
            and trouble.deaths >= DEATHS_BEFORE_PROBE
        )
