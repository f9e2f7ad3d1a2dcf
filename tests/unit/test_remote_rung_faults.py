"""One bad object, and every way a call can fail: the remote rung tries the older snapshots before
it gives up, and only what a wait cannot mend ends it early.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sda_pipeline.errors import Unreachable
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.state.objects import RemoteError
from sda_pipeline.state.recovery import CORRELATOR, LOGS, Rung
from sda_pipeline.vocabulary import RemoteFault
from tests.unit.store_rig import EPOCH
from tests.unit.test_remote_rung import WAIT_S, Ladder, served

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
