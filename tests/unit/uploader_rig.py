"""An uploader without its thread, and the first thread's side of it. No test."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from operators.remote_horizon import RemoteHorizon
from operators.uploader import News, Uploader
from sda_pipeline.clock import ManualClock
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.state.manifest import Manifest
from sda_pipeline.state.objects import RemoteError
from sda_pipeline.vocabulary import BreakerState, RemoteFault
from tests.unit.sink_rig import Words
from tests.unit.store_rig import EPOCH
from tests.unit.test_remote import Rig

TURNS_MAX = 100
LOG_ID = 7  # of store_rig
CLOSED, OPEN = BreakerState.CLOSED, BreakerState.OPEN


def away(passing: bool = True) -> RemoteError:
    return RemoteError("list it", "it is away", RemoteFault.UNREACHABLE, passing=passing)


def uploads(news: list[News]) -> list[Manifest]:
    """What was uploaded."""
    return [each.uploaded for each in news if each.uploaded is not None]


class Turns:
    """An uploader without its thread, and the first thread's side of it."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rig, self.clock = rig, ManualClock(7, 7)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.uploader = Uploader(
            lambda: rig.remote, rig.directory, self.clock, rig.hits.append, lambda: 0.0
        )
        self.words = Words({"epoch": EPOCH, "radar.log_id": LOG_ID, "radar.log_first": 1})
        worker: Any = SimpleNamespace(
            clock=self.clock, board=self.words, fail=lambda _: None,
            topology=SimpleNamespace(sources=("radar",), s3=SimpleNamespace(keep=rig.keep)),
            event=lambda event, **fields: self.events.append((event, fields)),
        )  # fmt: skip
        monkeypatch.setattr(Uploader, "start", lambda _: None)
        self.horizon = RemoteHorizon(worker, self.uploader)

    def until_idle(self) -> list[News]:
        """Turn after turn, the clock moving as it waits; what was told."""
        for _ in range(TURNS_MAX):
            wait_s = self.uploader.turn()
            if wait_s is None:
                return self.uploader.news()
            self.clock.advance(round(wait_s * SECOND_NS))
        raise AssertionError("it never comes to rest")

    def until_idle_and_told(self) -> bool:
        """The same, and the board says it; whether another snapshot is wanted."""
        while self.uploader.turn() == 0.0:
            pass
        return self.horizon.turn()

    def words_written(self, word: str) -> list[int]:
        """Every value that a word takes from now on."""
        written: list[int] = []

        def write(name: str, value: int) -> None:
            self.words[name] = value
            if name == word:
                written.append(value)

        self.words.set = write  # type: ignore[method-assign]
        return written

    def told(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]

    def unserve(self, *manifests: Manifest) -> None:
        """From now on the store answers 503 to whoever reads these."""
        begin = self.rig.objects._begin
        calls = {f"get {self.rig.remote.manifest_key(each.sequence)}" for each in manifests}

        def refuse(call: str) -> None:
            begin(call)
            if call in calls:
                raise RemoteError("get it", "it answered 503", RemoteFault.OVERLOADED)

        self.rig.objects._begin = refuse  # type: ignore[method-assign]
