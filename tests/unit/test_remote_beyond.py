"""Whether a correlator may begin anew: what the flag allows, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from operators.remote_beyond import what_lies_beyond
from sda_pipeline.state.recovery import Beyond
from sda_pipeline.topology import S3Settings
from tests.unit.sink_rig import Words
from tests.unit.test_correlator_open import FakeWorker

S3 = S3Settings("bucket", "prefix", "http://127.0.0.1:1", "us-east-1")


def beyond(tmp_path: Path, s3: S3Settings | None = S3, **words: int) -> Beyond:
    """As a correlator sees it that was started with the flag."""
    board = Words()
    board.update(words)
    worker = FakeWorker(tmp_path, board, allow_fresh=True)
    worker.topology.s3 = s3
    return what_lies_beyond(worker)  # type: ignore[arg-type]


@pytest.mark.parametrize("words", [{}, {"sub_pos": 1 << 32 | 4}], ids=["first", "state was lost"])
def test_the_flag_allows_a_new_state_at_the_start(words: dict[str, int], tmp_path: Path) -> None:
    found = beyond(tmp_path, **words)
    assert found.remote is not None
    assert found.allow_fresh
    assert bool(found.suspicion) == bool(words)


def test_it_allows_no_second_one_in_the_same_run(tmp_path: Path) -> None:
    found = beyond(tmp_path, epoch=2, sub_pos=1 << 32 | 4)
    assert not found.allow_fresh
    assert found.suspicion == "this run has had a store, so its --allow-fresh is used up"


def test_without_a_remote_there_is_nothing_to_allow(tmp_path: Path) -> None:
    assert beyond(tmp_path, None, epoch=2) == Beyond()
