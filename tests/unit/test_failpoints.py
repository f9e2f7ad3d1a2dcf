"""Failpoints by observation: several ids may name one point; counted points keep their meaning."""

from __future__ import annotations

import numpy as np
import pytest

from sda_pipeline import failpoints
from sda_pipeline.errors import UsageError
from sda_pipeline.records.rows import ROW

FIRST, SECOND = "00000000-0000-0001-0000-00000000000a", "00000000-0000-0001-0000-00000000000b"


def rows(*lows: int) -> np.ndarray:
    made = np.zeros(len(lows), ROW)
    made["id"][:, 0], made["id"][:, 1] = 1, lows
    return made


@pytest.fixture
def fired(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    actions: list[str] = []
    text = f"radar.row@{FIRST.upper()}:kill,radar.row@{SECOND}:hang,radar.after_sync=2:kill"
    points = failpoints.parse(text)
    monkeypatch.setattr(failpoints, "_points", points)
    monkeypatch.setattr(
        failpoints, "ACTIONS",
        {"kill": lambda: actions.append("kill"), "hang": lambda: actions.append("hang")},
    )  # fmt: skip
    return actions


def test_each_named_observation_fires_whenever_it_passes(fired: list[str]) -> None:
    failpoints.hit_rows("radar.row", rows(1, 2, 3))
    failpoints.hit_rows("correlator.row", rows(0xA))
    assert fired == []
    failpoints.hit_rows("radar.row", rows(1, 0xA))
    failpoints.hit_rows("radar.row", rows(0xB))
    failpoints.hit_rows("radar.row", rows(0xA))
    assert fired == ["kill", "hang", "kill"]
    failpoints.hit_rows("radar.row", rows())
    failpoints.hit("radar.row")
    assert len(fired) == 3


def test_a_counted_point_fires_once(fired: list[str]) -> None:
    for _ in range(5):
        failpoints.hit("radar.after_sync")
    assert fired == ["kill"]


@pytest.mark.parametrize("text", ["radar.row@x", "radar.row@x:explode", ":kill"])
def test_a_wrong_one_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        failpoints.parse(text)
