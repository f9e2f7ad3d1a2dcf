"""One bad object, and every way a call can fail: the remote rung tries the older snapshots before
it gives up, and only what a wait cannot mend ends it early.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sda_pipeline.errors import InvalidConfiguration, Unreachable
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.state.objects import Fetched, RemoteError
from sda_pipeline.state.recovery import CORRELATOR, LOGS, Rung
from sda_pipeline.vocabulary import RemoteFault
from tests.unit.store_rig import EPOCH, flip, snapshot_file
from tests.unit.test_remote import PLACE
from tests.unit.test_remote_rung import AWAY, WAIT_S, Ladder, served

BROKEN = RemoteError("get it", "it answered 500 InternalError", RemoteFault.OVERLOADED)
ARCHIVED = RemoteError(
    "get it", "it answered 403 InvalidObjectState", RemoteFault.DENIED, passing=False
)
CUT = RemoteError("get it", "10 of 900 bytes came", RemoteFault.UNREACHABLE)


@pytest.fixture
def ladder(tmp_path: Path) -> Ladder:
    """Three remote snapshots, and a disk that held state and is lost."""
    found = Ladder(tmp_path)
    found.lose_disk()
    (found.rig.state / LOGS).mkdir()
    return found


def spoil(ladder: Ladder, names: list[str], error: Exception) -> None:
    """Let every call fail that is for an object whose key ends like that."""
    ok = ladder.rig.objects._begin

    def begin(call: str) -> None:
        ok(call)
        if call.startswith("get") and any(call.endswith(name) for name in names):
            raise error

    ladder.rig.objects._begin = begin  # type: ignore[method-assign]


def key(ladder: Ladder, number: int, kind: str) -> str:
    """The end of the key of the ``number``-th newest."""
    return ladder.object(number, kind).name


@pytest.mark.parametrize("allow_fresh", [False, True])
@pytest.mark.parametrize("kind", ["snap", "json"])
@pytest.mark.parametrize("error", [BROKEN, ARCHIVED, CUT], ids=["500", "403", "cut"])
def test_one_that_is_never_served_does_not_hide_the_older_ones(
    error: RemoteError, kind: str, allow_fresh: bool, ladder: Ladder
) -> None:
    spoil(ladder, [key(ladder, 0, kind)], error)
    recovered = ladder.recover(allow_fresh=allow_fresh)
    assert served(recovered, ladder) == (Rung.REMOTE, 1)
    (told,) = ladder.story.told("recovery_rung_failed", rung=Rung.REMOTE)
    assert error.why in told["why"]
    waited_s = ladder.clock.monotonic_ns() / SECOND_NS
    assert waited_s == pytest.approx(WAIT_S if error.passing else 0.0, abs=0.001)


@pytest.mark.parametrize("error", [BROKEN, ARCHIVED], ids=["500", "403"])
def test_when_none_is_served_it_says_so_and_begins_anew_only_if_allowed(
    error: RemoteError, ladder: Ladder
) -> None:
    spoil(ladder, [".snap"], error)
    with pytest.raises(Unreachable, match=f"{error.why}.*--allow-fresh") as refused:
        ladder.recover()
    assert refused.value.exit_code == 8, "it is not damaged: it may be served later"
    assert len(ladder.story.told("recovery_rung_failed", rung=Rung.REMOTE)) == 3
    assert not (ladder.rig.state / CORRELATOR).exists()
    recovered = ladder.recover(allow_fresh=True)
    recovered.store.close()
    assert (recovered.rung, recovered.known_epoch) == (Rung.FRESH, EPOCH)


STRANGE: list[Exception] = [
    FileNotFoundError(errno.ENOENT, "No such file or directory", "/var/run/token"),
    PermissionError(errno.EACCES, "Permission denied"),
    RuntimeError("can't start new thread"),
    AttributeError("'NoneType' object has no attribute 'x'"),
    RemoteError("reach it", "no credentials", RemoteFault.DENIED),
]


@pytest.mark.parametrize("where", ["connect", "list", "get", "get_file"])
@pytest.mark.parametrize("error", STRANGE, ids=lambda error: type(error).__name__)
def test_whatever_a_call_raises_is_waited_for_and_passes(
    error: Exception, where: str, ladder: Ladder
) -> None:
    raises(ladder, where, [error] * 3)
    assert served(ladder.recover(), ladder) == (Rung.REMOTE, 0)
    waits = ladder.story.told("recovery_waits_for_remote")
    assert len(waits) == 3
    assert all(str(error) in wait["why"] for wait in waits)


@pytest.mark.parametrize("where", ["connect", "list", "get", "get_file"])
@pytest.mark.parametrize("error", STRANGE, ids=lambda error: type(error).__name__)
def test_what_does_not_pass_is_refused_in_one_line_when_the_wait_is_over(
    error: Exception, where: str, ladder: Ladder
) -> None:
    raises(ladder, where, [error] * 1000)
    with pytest.raises(Unreachable, match="--allow-fresh") as refused:
        ladder.recover()
    assert refused.value.exit_code == 8
    assert (error.why if isinstance(error, RemoteError) else str(error)) in str(refused.value)
    assert ladder.clock.monotonic_ns() == WAIT_S * SECOND_NS


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_is_not_the_remotes_fault(code: int, ladder: Ladder) -> None:
    raises(ladder, "get_file", [OSError(code, os.strerror(code))])
    with pytest.raises(OSError, match=os.strerror(code)):
        ladder.recover()
    assert ladder.clock.monotonic_ns() == 0


def test_the_bound_begins_with_the_first_call(tmp_path: Path) -> None:
    # What the rungs above take, to find that they do not serve, is not taken from it.
    ladder = Ladder(tmp_path)
    ladder.lose(CORRELATOR)
    for number in (1, 2, 3):
        flip(snapshot_file(ladder.rig.state, number), at=9000)
    ladder.rig.objects.faults = [AWAY] * 3
    recovered = ladder.recover(lambda _: ladder.clock.advance(round(WAIT_S * SECOND_NS)))
    assert served(recovered, ladder) == (Rung.REMOTE, 0)


def test_whatever_moves_begins_the_wait_anew(ladder: Ladder) -> None:
    # Each fault alone is inside the bound, all of them together are not.
    calls: list[str] = []
    ok = ladder.rig.objects._begin

    def slow(call: str) -> None:
        ok(call)
        if call not in calls:
            calls.append(call)
            ladder.clock.advance(round(0.8 * WAIT_S * SECOND_NS))
            raise AWAY

    ladder.rig.objects._begin = slow  # type: ignore[method-assign]
    assert served(ladder.recover(), ladder) == (Rung.REMOTE, 0)
    assert len(calls) == 1 + 3 + 1  # the directory, the manifests, the data
    assert ladder.clock.monotonic_ns() > 4 * 0.8 * WAIT_S * SECOND_NS


def test_a_download_that_is_always_cut_at_one_place_is_given_up(ladder: Ladder) -> None:
    fetched = 0

    def cut(key: str, target: Path, moved: Callable[[], None]) -> Fetched:
        nonlocal fetched
        fetched += 1
        for _ in range(5):
            ladder.clock.advance(SECOND_NS)
            moved()
        raise CUT

    ladder.rig.objects.get_file = cut  # type: ignore[method-assign]
    with pytest.raises(Unreachable, match="10 of 900 bytes came"):
        ladder.recover()
    assert fetched > 3, "it was tried more than once"
    # Of three snapshots: until the fifth piece each time, then the bound.
    assert ladder.clock.monotonic_ns() < 3 * (5 + 2 * WAIT_S) * SECOND_NS


def test_it_beats_while_it_lists(ladder: Ladder) -> None:
    ladder.rig.objects.calls.clear()
    ladder.recover().store.close()
    listing = [call for call in ladder.rig.objects.calls if not call.startswith("get_file")]
    assert len(listing) == 1 + 3
    assert ladder.beats >= len(listing) + 2


def test_a_newer_releases_manifest_is_refused_at_once(ladder: Ladder) -> None:
    ladder.object(0, "json").write_bytes(b'{"format_version": 99}')
    with pytest.raises(InvalidConfiguration, match="format version 99"):
        ladder.recover()
    assert ladder.clock.monotonic_ns() == 0


@pytest.mark.parametrize(
    "name",
    [
        f"{PLACE}{9 << 32 | 4:020d}.json", f"{PLACE}{9 << 32 | 4:020d}.snap",
        f"{PLACE}{9 << 32 | 4:020d}-{0:016x}.snap",
    ],
)  # fmt: skip
def test_a_higher_epoch_is_known_by_a_name_alone(name: str, ladder: Ladder) -> None:
    (ladder.rig.objects.root / name).write_bytes(b"{")
    recovered = ladder.recover()
    recovered.store.close()
    assert (recovered.rung, recovered.known_epoch) == (Rung.REMOTE, 9)


def raises(ladder: Ladder, where: str, errors: list[Exception]) -> None:
    """Let the next calls of one kind fail like that."""
    left = [*errors]
    ok = ladder.rig.objects._begin

    def fail() -> None:
        if left:
            raise left.pop(0)

    def begin(call: str) -> None:
        ok(call)
        if call.startswith(f"{where} "):
            fail()

    if where == "connect":
        ladder.before = fail
    else:
        ladder.rig.objects._begin = begin  # type: ignore[method-assign]
