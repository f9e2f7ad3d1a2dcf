"""When all a run took in has been delivered: two agreeing reads of the board (SPEC 8). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.alert import NUMBER_MASK

APART_NS = SECOND_NS // 10  # a batch on its way between two words shows within this time

_POSITIONS = ("log_end", "applied", "dlq_done", "lag", "ended", "quarantined", "reported")
_GLOBAL = ("dirty", "outbox_end", "sink_pos", "sub_pos")


def watched_words(sources: Sequence[str]) -> tuple[str, ...]:
    """The board words the decision rests on."""
    return (*_GLOBAL, *(f"{source}.{word}" for source in sources for word in _POSITIONS))


def delivered(words: Mapping[str, int], sources: Sequence[str]) -> bool:
    """Nothing waits at the broker, in a log, at the correlator, or on the way to the subscriber.

    An unknown lag is no lag of 0.
    """
    return (
        all(
            words[f"{s}.lag"] == 0
            and words[f"{s}.log_end"] == words[f"{s}.applied"] == words[f"{s}.dlq_done"]
            and words[f"{s}.reported"] >= words[f"{s}.quarantined"]
            for s in sources
        )
        and words["dirty"] == 0
        and words["sub_pos"] >= words["sink_pos"] >= _last_entry(words["outbox_end"])
    )


def _last_entry(outbox_end: int) -> int:
    """The position the sink must reach: an epoch without an entry yet (n = 0) asks for none."""
    return outbox_end if outbox_end & NUMBER_MASK else 0


def ended(words: Mapping[str, int], sources: Sequence[str]) -> bool:
    """Every source has logged END."""
    return all(words[f"{source}.ended"] for source in sources)


class Agreement:
    """Two reads, at least 100 ms apart, that are equal and both say delivered."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = sources
        self._first: tuple[int, dict[str, int]] | None = None

    def observe(self, words: dict[str, int] | None, now: int) -> bool:
        """Take one read at monotonic ``now`` ns; None when an operator was not running."""
        if words is None or not delivered(words, self._sources):
            self._first = None
            return False
        if self._first is None or self._first[1] != words:
            self._first = (now, words)
            return False
        return now - self._first[0] >= APART_NS
