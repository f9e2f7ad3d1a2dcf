"""What audit makes of a mark's knowledge: the record it stands at, an earlier one, or nothing."""

from __future__ import annotations

import msgspec
import pytest

from sda_pipeline.dlq.marks import Mark
from sda_pipeline.records.frames import KIND_ROWS, Counts, Header, Part
from sda_pipeline.records.rejects import Reach
from sda_pipeline.runtime.audit_dlq import _knowledge_faults
from sda_pipeline.runtime.audit_log import Standing, Walked
from tests.unit.dlq_rig import LOG

CATALOGUE, NEXT = 3, 40
HEADER = Header(KIND_ROWS, 0, LOG, 5, 0, 0, 0, CATALOGUE, 0, 0, 0, 0, 1)
HERE = Standing(HEADER, {0: Part(0, 1, NEXT, 0)}, Counts(), 0)
WHOLE = Mark(LOG, 5, reaches=(Reach(0, 1, NEXT),), catalogue=CATALOGUE)
HALF = {"position": 6, "index": 0, "complete": False}  # done is 5


def faults(first: int = 1, **changes: object) -> list[str]:
    walked = Walked(LOG, first, 6, whole=first == 1, at={5: HERE})
    return [*_knowledge_faults(msgspec.structs.replace(WHOLE, **changes), walked)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reaches": (), "catalogue": 0},  # of an older release
        HALF,
        HALF | {"reaches": (Reach(0, 1, NEXT - 9),), "catalogue": 9},  # an earlier record's
        HALF | {"reaches": (Reach(0, 7, NEXT + 9),)},  # a generation that ended
        {"again": 6, "reaches": (Reach(0, 1, NEXT + 9),)},  # set back
        {"in_doubt": 4, "replaced": True},
        {"in_doubt": 4, "first": 3},  # nothing was known of the log before
    ],
)
def test_what_may_be(changes: dict[str, object]) -> None:
    assert faults(**changes) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"reaches": (Reach(0, 1, NEXT - 1),)}, "it reaches"),
        ({"reaches": (Reach(0, 2, NEXT),)}, "it reaches"),
        ({"catalogue": CATALOGUE + 1}, "judged what is at 5"),
        (HALF | {"reaches": (Reach(0, 1, NEXT + 1),)}, "beyond the log's record at 5"),
        (HALF | {"reaches": (Reach(1, 1, 1),)}, "beyond the log's record at 5"),
        ({"in_doubt": 4}, "4 offsets in doubt"),
        ({"in_doubt": -1, "replaced": True}, "-1 offsets in doubt"),
    ],
)
def test_what_may_not(changes: dict[str, object], says: str) -> None:
    (fault,) = faults(**changes)  # type: ignore[arg-type]
    assert says in fault
