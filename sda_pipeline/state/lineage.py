"""Whose a remote snapshot is, by its epoch and the id that was drawn with it; how far it covers a
log. Pure. Not what is then done (operators/uploader.py, operators/remote_horizon.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

from sda_pipeline.state.manifest import Manifest


class Standing(Enum):
    """What the newest remote snapshot means for one that is to be uploaded."""

    FREE = "free"  # it goes on from what is there
    THERE = "there"  # it is what is there
    AHEAD = "ahead"  # ours had counted further, and that was lost: number above
    RIVAL = "rival"  # another writer's, or a later life's: it must not be written over or pruned


def standing(mine: Manifest, newest: Manifest | None, ours: Iterable[Manifest]) -> Standing:
    """``ours``: snapshots that are known to be this pipeline's, ``mine`` apart."""
    if newest is None or newest.epoch < mine.epoch:
        return Standing.FREE
    if newest == mine:
        return Standing.THERE
    if newest.epoch > mine.epoch or not is_ours(newest, mine, ours):
        return Standing.RIVAL
    return Standing.FREE if newest.sequence < mine.sequence else Standing.AHEAD


def rivalry(newest: Manifest, epoch: int) -> str:
    """Why a snapshot of ``epoch`` is kept back, and what to do."""
    whose = "a later life's" if newest.epoch > epoch else "another writer's"
    return (
        f"the newest snapshot there is {whose}, of epoch {newest.epoch}, this pipeline's epoch is "
        f"{epoch}; give each pipeline a prefix of its own, or, if this one is to go on, "
        "sda-supervisor restart correlator: it takes a higher epoch"
    )


def is_ours(there: Manifest, mine: Manifest, ours: Iterable[Manifest]) -> bool:
    """Whether one of this epoch is this pipeline's: it bears the id of ``mine``.

    Older releases drew none. Then it must be one of ours, or made of the logs of one. Log ids are
    drawn at random too, but a log may be made anew within an epoch, and be older than a pipeline.
    """
    if there.epoch_id and mine.epoch_id:
        return there.epoch_id == mine.epoch_id
    return any(there == each or _agree(there.log_ids, each.log_ids) for each in (mine, *ours))


def _agree(some: Mapping[str, int], others: Mapping[str, int]) -> bool:
    """In every log that both have, and there is one."""
    both = some.keys() & others.keys()
    return bool(both) and all(some[source] == others[source] for source in both)


def covering(kept: Sequence[Manifest], source: str, log_id: int, first: int) -> list[Manifest]:
    """Those of ``kept`` whose position is one of the log ``log_id``, which was begun at ``first``:
    made of that log, or what it was begun behind.
    """
    return [
        manifest
        for manifest in kept
        if manifest.log_ids.get(source) == log_id or manifest.positions.get(source, 0) == first - 1
    ]
