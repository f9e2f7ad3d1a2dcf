"""The remote rung of the ladder: which snapshot serves, when it waits, when it refuses to begin
anew. On the reference store; the real one is in tests/s3.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sda_pipeline.clock import ManualClock
from sda_pipeline.errors import StateCorrupt, Unreachable
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.state import recovery
from sda_pipeline.state.objects import RemoteError
from sda_pipeline.state.recovery import CORRELATOR, LOGS, SNAPSHOTS, Beyond, Recovered, Rung
from sda_pipeline.state.remote import RemoteSnapshots
from sda_pipeline.state.remote_rung import PatientRemote
from sda_pipeline.vocabulary import FAILPOINTS, RemoteFault
from tests.unit.store_rig import EPOCH, content_of, data_file, flip
from tests.unit.test_recovery import Killed, Story
from tests.unit.test_remote import Rig

WAIT_S = 10.0
AWAY = RemoteError("list it", "it is away", RemoteFault.UNREACHABLE)
DENIED = RemoteError("list it", "it answered 403", RemoteFault.DENIED, passing=False)


class Ladder:
    """A state with three remote snapshots, and one recovery of it after another."""

    def __init__(self, root: Path) -> None:
        self.rig, self.clock, self.beats = Rig(root), ManualClock(0, 0), 0
        for number in range(3):
            self.rig.upload(number)
        self.story = Story()
        self.before: Callable[[], None] = lambda: None  # called at each attempt to connect

    def connect(self) -> RemoteSnapshots:
        self.before()
        return self.rig.remote

    def recover(self, hit: Callable[[str], None] = lambda _: None, **beyond: Any) -> Recovered:
        remote = PatientRemote(self.connect, WAIT_S, self.clock, lambda: 0.5, self.story, self.beat)
        return recovery.recover(self.rig.state, self.story, hit, Beyond(remote, **beyond))

    def beat(self) -> None:
        self.beats += 1

    def lose(self, *names: str) -> None:
        for name in names:
            shutil.rmtree(self.rig.state / name)

    def lose_disk(self) -> None:
        self.lose(CORRELATOR, SNAPSHOTS)

    def object(self, number: int, kind: str) -> Path:
        """Of the ``number``-th newest."""
        return self.rig.place(self.rig.local[-1 - number], kind)


@pytest.fixture
def ladder(tmp_path: Path) -> Ladder:
    return Ladder(tmp_path)


def served(recovered: Recovered, ladder: Ladder) -> tuple[Rung, int]:
    """The rung, and which remote snapshot it was."""
    try:
        sequences = [manifest.sequence for manifest in ladder.rig.local[::-1]]
        snapshot = recovered.store.meta.snapshot
        assert recovered.known_epoch == EPOCH
        assert recovered.store.meta.epoch_due
        return recovered.rung, sequences.index(snapshot)
    finally:
        recovered.store.close()


DAMAGE: dict[str, tuple[list[Callable[[Ladder], object]], int, list[str]]] = {
    "none": ([], 0, ["local"]),
    "newest damaged": ([lambda s: flip(s.object(0, "snap"), at=9000)], 1, ["local", "remote"]),
    "newest cut": ([lambda s: s.object(0, "snap").write_bytes(b"x")], 1, ["local", "remote"]),
    "its manifest missing": ([lambda s: s.object(0, "json").unlink()], 1, ["local", "remote"]),
    "its data missing": ([lambda s: s.object(0, "snap").unlink()], 1, ["local", "remote"]),
    "its manifest damaged": ([lambda s: s.object(0, "json").write_bytes(b"{")], 1,
                             ["local", "remote"]),
    "two damaged": ([lambda s: flip(s.object(0, "snap"), at=9000),
                     lambda s: s.object(1, "snap").unlink()], 2, ["local", "remote", "remote"]),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_the_newest_that_verifies_serves(name: str, ladder: Ladder) -> None:
    damages, number, failed = DAMAGE[name]
    ladder.lose_disk()
    (ladder.rig.state / LOGS).mkdir()
    for damage in damages:
        damage(ladder)
    assert served(ladder.recover(), ladder) == (Rung.REMOTE, number)
    assert ladder.story.failed() == failed
    assert ladder.beats, "it says that it lives"


def test_the_remote_is_not_asked_while_this_disk_serves(ladder: Ladder) -> None:
    ladder.rig.objects.calls.clear()
    recovered = ladder.recover()
    recovered.store.close()
    assert recovered.rung is Rung.LOCAL
    ladder.lose(CORRELATOR)
    recovered = ladder.recover()
    recovered.store.close()
    assert recovered.rung is Rung.SNAPSHOT
    assert ladder.rig.objects.calls == []


def test_a_store_that_was_restored_is_the_next_starts_own(ladder: Ladder) -> None:
    ladder.lose_disk()
    first = ladder.recover()
    content = content_of(first.store)
    first.store.close()
    recovered = ladder.recover()
    assert recovered.rung is Rung.LOCAL
    assert content_of(recovered.store) == content
    recovered.store.close()


POINTS = [
    *FAILPOINTS["remote-rung"], "recovery_copied", "recovery_moved_aside", "recovery_installed",
]  # fmt: skip


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_step_leaves_what_the_next_start_recovers_from(
    point: str, ladder: Ladder
) -> None:
    ladder.lose_disk()

    def die(hit: str) -> None:
        if hit == point:
            raise Killed

    with pytest.raises(Killed):
        ladder.recover(die)
    recovered = ladder.recover()
    assert recovered.store.meta.epoch_due, "it may say nothing before its epoch is raised"
    assert served(recovered, ladder)[1] == 0


def test_one_that_is_away_is_waited_for(ladder: Ladder) -> None:
    ladder.lose_disk()
    ladder.rig.objects.faults = [AWAY] * 3
    assert served(ladder.recover(), ladder) == (Rung.REMOTE, 0)
    waits = [fields for event, fields in ladder.story.events if event.endswith("for_remote")]
    assert len(waits) == 3
    assert 0 < ladder.clock.monotonic_ns() <= WAIT_S * SECOND_NS


def test_a_download_that_is_cut_begins_again(ladder: Ladder) -> None:
    ladder.lose_disk()
    listing = 1 + len(ladder.rig.local)  # calls before the download
    ok = ladder.rig.objects._begin

    def cut_once(call: str) -> None:
        ok(call)
        if call.startswith("get_file") and len(ladder.story.events) < listing:
            raise AWAY

    ladder.rig.objects._begin = cut_once  # type: ignore[method-assign]
    assert served(ladder.recover(), ladder) == (Rung.REMOTE, 0)


@pytest.mark.parametrize(
    ("faults", "least_s"), [([AWAY] * 100, WAIT_S), ([DENIED] * 100, 0.0)], ids=["away", "denied"]
)
def test_the_wait_is_bounded_and_then_refused(
    faults: list[RemoteError], least_s: float, ladder: Ladder
) -> None:
    ladder.lose_disk()
    ladder.rig.objects.faults = [*faults]
    with pytest.raises(Unreachable, match="--allow-fresh") as error:
        ladder.recover()
    assert error.value.exit_code == 8
    assert least_s <= ladder.clock.monotonic_ns() / SECOND_NS <= least_s + 0.001
    ladder.rig.objects.faults = [*faults]
    recovered = ladder.recover(allow_fresh=True)
    recovered.store.close()
    assert (recovered.rung, recovered.known_epoch) == (Rung.FRESH, 0)


def empty(ladder: Ladder) -> None:
    shutil.rmtree(ladder.rig.objects.root)


def all_damaged(ladder: Ladder) -> None:
    for number in range(3):
        flip(ladder.object(number, "snap"), at=9000)


def test_a_first_start_is_fresh_without_a_word(ladder: Ladder) -> None:
    ladder.lose_disk()
    empty(ladder)
    for _ in range(2):  # killed before its first commit, it is one still
        recovered = ladder.recover()
        recovered.store.close()
        assert recovered.rung is Rung.FRESH
    assert ladder.story.failed() == []


SIGNS: dict[str, tuple[Callable[[Ladder], object], str]] = {
    "logs": (lambda s: (s.rig.state / LOGS).mkdir(), "the sources have logs"),
    "a damaged store": (
        lambda s: (
            (s.rig.state / CORRELATOR).mkdir(),
            data_file(s.rig.state).write_bytes(b"\0" * 8192),
        ),
        "its files are damaged",
    ),
    "a damaged snapshot": (
        lambda s: (
            (s.rig.state / SNAPSHOTS).mkdir(),
            (s.rig.state / SNAPSHOTS / f"correlator-{7:020d}.json").write_bytes(b"{"),
        ),
        "there were snapshots of it",
    ),
}


@pytest.mark.parametrize("name", SIGNS)
def test_an_empty_bucket_and_a_sign_of_state_is_refused(name: str, ladder: Ladder) -> None:
    make, why = SIGNS[name]
    ladder.lose_disk()
    empty(ladder)
    make(ladder)
    with pytest.raises(StateCorrupt, match=f"the remote holds no snapshot, and {why}") as error:
        ladder.recover()
    assert error.value.exit_code == 7
    recovered = ladder.recover(allow_fresh=True)
    recovered.store.close()
    assert recovered.rung is Rung.FRESH


def test_what_the_board_told_is_a_sign(ladder: Ladder) -> None:
    ladder.lose_disk()
    empty(ladder)
    with pytest.raises(StateCorrupt, match="the subscriber has taken alerts"):
        ladder.recover(suspicion="the subscriber has taken alerts")


def test_damaged_snapshots_are_refused_and_their_epoch_is_known(ladder: Ladder) -> None:
    ladder.lose_disk()
    all_damaged(ladder)
    with pytest.raises(StateCorrupt, match="none of the remote snapshots serves"):
        ladder.recover()
    recovered = ladder.recover(allow_fresh=True)
    recovered.store.close()
    assert (recovered.rung, recovered.known_epoch) == (Rung.FRESH, EPOCH)


def test_no_more_manifests_are_read_than_are_needed(ladder: Ladder) -> None:
    # Nothing may be deleted there: old ones are many.
    oldest = ladder.rig.local[0]
    for number in range(1, 5):
        epoch = EPOCH - 1
        old = msgspec.structs.replace(oldest, sequence=epoch << 32 | number, epoch=epoch)
        ladder.rig.put(old)
    shutil.copy(ladder.object(2, "snap"), ladder.rig.place(old, "snap"))
    ladder.lose_disk()
    ladder.rig.objects.calls.clear()
    assert served(ladder.recover(), ladder) == (Rung.REMOTE, 0)
    read = [call for call in ladder.rig.objects.calls if call.startswith("get ")]
    assert len(read) == ladder.rig.keep
    for number in range(3):
        flip(ladder.object(number, "snap"), at=9000)
    ladder.lose(CORRELATOR)
    recovered = ladder.recover()
    recovered.store.close()
    assert recovered.rung is Rung.REMOTE
    assert recovered.store.meta.snapshot == old.sequence, "an older one serves where it must"
