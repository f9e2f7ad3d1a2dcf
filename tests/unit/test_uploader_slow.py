"""The replicator's second thread beside a store that takes its time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.test_remote import Rig
from tests.unit.uploader_rig import Turns, uploads


@pytest.fixture
def turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Turns:
    return Turns(Rig(tmp_path), monkeypatch)


def test_the_newest_is_sent_however_long_the_listing_took(turns: Turns) -> None:
    """What waited when a slow listing began may be deleted here when it ends."""
    older, newest = turns.rig.local[0], turns.rig.local[2]
    turns.uploader.offer(older)
    begin = turns.rig.objects._begin

    def listed(call: str) -> None:
        if call.startswith("list"):
            turns.uploader.offer(newest)
        begin(call)

    turns.rig.objects._begin = listed  # type: ignore[method-assign]
    assert uploads(turns.until_idle()) == [newest]
