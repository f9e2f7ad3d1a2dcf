"""Whose a remote snapshot is, and how far it covers a log."""

from __future__ import annotations

import msgspec
import pytest

from sda_pipeline.state.lineage import Standing, covering, standing
from sda_pipeline.state.manifest import Manifest

OURS, THEIRS = 7, 8
EPOCH = 3


def snapshot(number: int, position: int = 5, log_id: int = OURS, epoch: int = EPOCH) -> Manifest:
    return Manifest(
        sequence=epoch << 32 | number, created_ns=position, epoch=epoch, catalogue="c",
        closed_to=0, positions={"radar": position}, log_ids={"radar": log_id},
        size_bytes=1, sha256=f"{position}",
    )  # fmt: skip


MINE = snapshot(4)
STANDINGS: dict[str, tuple[Manifest | None, Standing]] = {
    "nothing there": (None, Standing.FREE),
    "an older one of ours": (snapshot(3), Standing.FREE),
    "an older epoch, whoever wrote it": (snapshot(9, log_id=THEIRS, epoch=2), Standing.FREE),
    "it is there": (MINE, Standing.THERE),
    "ours counted further": (snapshot(9), Standing.AHEAD),
    "ours had the number": (snapshot(4, position=6), Standing.AHEAD),
    "another writer behind": (snapshot(3, log_id=THEIRS), Standing.RIVAL),
    "another writer ahead": (snapshot(9, log_id=THEIRS), Standing.RIVAL),
    "another writer of the number": (snapshot(4, log_id=THEIRS), Standing.RIVAL),
    "a later epoch": (snapshot(1, epoch=4), Standing.RIVAL),
}


@pytest.mark.parametrize("name", STANDINGS)
def test_what_stands_there_decides(name: str) -> None:
    newest, expected = STANDINGS[name]
    assert standing(MINE, newest, []) is expected


def test_a_log_that_was_made_anew_in_this_epoch_is_no_other_writers() -> None:
    # The store was intact, the log was not: our earlier snapshots bear the old id.
    before = snapshot(3, log_id=OURS)
    mine = snapshot(4, log_id=OURS + 50)
    assert standing(mine, before, []) is Standing.RIVAL
    assert standing(mine, before, [before]) is Standing.FREE, "it is known to be ours"
    assert standing(mine, before, [snapshot(2, log_id=OURS)]) is Standing.FREE


def test_every_source_that_both_have_must_agree() -> None:
    both = msgspec.structs.replace(snapshot(3), log_ids={"radar": OURS, "isl": 1})
    other = msgspec.structs.replace(snapshot(3), log_ids={"isl": 1})
    mine = msgspec.structs.replace(MINE, log_ids={"radar": OURS, "isl": 2})
    assert standing(mine, both, []) is Standing.RIVAL
    assert standing(MINE, both, []) is Standing.FREE, "a source that is new says nothing"
    assert standing(MINE, other, []) is Standing.RIVAL, "no log in common is no agreement"
    assert standing(mine, snapshot(3, log_id=THEIRS), [other]) is Standing.RIVAL


def drawn(manifest: Manifest, epoch_id: int) -> Manifest:
    return msgspec.structs.replace(manifest, epoch_id=epoch_id)


@pytest.mark.parametrize("log_id", [OURS, THEIRS], ids=["the same log", "a log made anew"])
@pytest.mark.parametrize("number", [3, 9])
def test_the_id_of_the_epoch_decides_where_both_have_one(log_id: int, number: int) -> None:
    mine, there = drawn(MINE, 21), snapshot(number, log_id=log_id)
    ours = Standing.FREE if number == 3 else Standing.AHEAD
    assert standing(mine, drawn(there, 21), []) is ours
    # Two hosts that were restored from one snapshot have the old logs in common.
    assert standing(mine, drawn(there, 22), [drawn(there, 21)]) is Standing.RIVAL
    without = ours if log_id == OURS else Standing.RIVAL
    assert standing(mine, there, []) is without, "an older release wrote it: the logs decide"
    assert standing(MINE, drawn(there, 21), []) is without


@pytest.mark.parametrize(
    ("log_id", "first", "expected"),
    [
        (OURS, 1, [9, 5]),  # of this log
        (99, 6, [5]),  # made behind the position 5
        (99, 8, []),  # made where no snapshot ended
        (99, 1, []),  # begun anew
        (99, 0, []),  # by a release that did not say where
        (THEIRS, 10, [1000, 9]),
    ],
)
def test_a_snapshot_covers_its_own_log_and_the_one_begun_behind_it(
    log_id: int, first: int, expected: list[int]
) -> None:
    kept = [snapshot(4, 1000, THEIRS), snapshot(3, 9), snapshot(2, 5)]
    found = covering(kept, "radar", log_id, first)
    assert [manifest.positions["radar"] for manifest in found] == expected


def test_a_source_that_a_snapshot_does_not_know_stands_at_nothing_there() -> None:
    assert covering([MINE], "isl", 99, 1) == [MINE]
    assert covering([MINE], "isl", 99, 2) == []
