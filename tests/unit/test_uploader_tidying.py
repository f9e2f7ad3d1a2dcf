"""What is done beside an upload: sweeping, pruning, a probe of the store. None of it may keep a
snapshot from being there, or from being told.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.state.objects import RemoteError
from sda_pipeline.vocabulary import RemoteFault
from tests.contracts.directory_objects import HALF
from tests.unit.test_remote import PLACE, Rig
from tests.unit.uploader_rig import CLOSED, Turns, away, uploads

DENIED = RemoteError("do it", "it answered 403 AccessDenied", RemoteFault.DENIED, passing=False)


@pytest.fixture
def turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Turns:
    return Turns(Rig(tmp_path, keep=1), monkeypatch)


def failing(turns: Turns, call: str, error: RemoteError, times: int = 10**6) -> list[str]:
    """From now on a call fails so often; returns the list of them."""
    begin, calls = turns.rig.objects._begin, list[str]()

    def fail(called: str) -> None:
        begin(called)
        if called.startswith(call):
            calls.append(called)
            if len(calls) <= times:
                raise error

    turns.rig.objects._begin = fail  # type: ignore[method-assign]
    return calls


def leave_half(turns: Turns, key: str) -> Path:
    half = turns.rig.objects.root / (key + HALF)
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_bytes(b"half")
    return half


@pytest.mark.parametrize(
    ("call", "untidy"), [("delete", {"prune", "probe"}), ("abort_uploads", {"sweep"})]
)
def test_without_the_right_to_tidy_all_is_uploaded_once_and_the_horizon_moves(
    turns: Turns, call: str, untidy: set[str]
) -> None:
    failing(turns, call, DENIED)
    for manifest in turns.rig.local:
        turns.uploader.offer(manifest)
        news = turns.until_idle()
        assert uploads(news) == [manifest]
        assert [each.fault for each in news if each.fault] == []
        turns.uploader._news.extend(news)
        turns.horizon.turn()
        assert turns.words["remote_seq"] == manifest.sequence
    puts = [call for call in turns.rig.objects.calls if call.startswith("put ")]
    assert len(puts) == len(turns.rig.local)
    assert turns.uploader.breaker.state is CLOSED
    told = turns.told("remote_untidy")
    assert Counter(each["what"] for each in told) == Counter(untidy), "each is told once"
    assert "403 AccessDenied" in told[0]["why"]
    assert turns.words["upload_fault"] == RemoteFault.NONE


def test_what_cannot_be_pruned_holds_no_logs_and_that_is_shown(turns: Turns) -> None:
    failing(turns, "delete", DENIED)
    for manifest in turns.rig.local:
        turns.uploader.offer(manifest)
        turns.until_idle_and_told()
        assert turns.words["radar.remote"] == manifest.positions["radar"], "the newest alone counts"
    assert len(turns.rig.keys()) > 2 * turns.rig.keep, "all are still there"
    assert turns.words["prune_failed_at"] == turns.clock.wall_ns()
    del turns.rig.objects._begin  # type: ignore[method-assign] # the right is given
    later = turns.rig.renumber(turns.rig.local[2], turns.rig.local[2].sequence + 1)
    turns.uploader.offer(later)
    turns.until_idle_and_told()
    assert len(turns.rig.keys()) == 2
    assert turns.words["prune_failed_at"] == 0


def test_what_was_not_pruned_goes_the_next_time(turns: Turns) -> None:
    failing(turns, "delete", away(), times=1)
    for manifest in turns.rig.local:
        turns.uploader.offer(manifest)
        turns.until_idle()
    assert len(turns.rig.keys()) == 2, "one snapshot"


def test_what_a_killed_life_left_is_swept_before_the_first_upload(turns: Turns) -> None:
    half = leave_half(turns, turns.rig.remote.data_key(turns.rig.local[0]))
    turns.uploader.offer(turns.rig.local[1])
    assert sum(each.swept for each in turns.until_idle()) == 1
    assert not half.exists()


def test_what_a_failed_upload_left_is_swept_before_the_next(turns: Turns) -> None:
    # Its own abort failed too: the store was away.
    turns.uploader.offer(turns.rig.local[0])
    turns.until_idle()
    halves = []

    def cut(call: str) -> None:
        begin(call)
        if call.startswith("put ") and len(halves) < 3:
            halves.append(leave_half(turns, f"{call.removeprefix('put ')}.{len(halves)}"))
            raise away()

    begin = turns.rig.objects._begin
    turns.rig.objects._begin = cut  # type: ignore[method-assign]
    turns.uploader.offer(turns.rig.local[1])
    news = turns.until_idle()
    assert len(halves) == 3
    assert not any(half.exists() for half in halves)
    assert sum(each.swept for each in news) == 3
    assert uploads(news) == [turns.rig.local[1]]


def exact_keys_only(turns: Turns) -> None:
    """As on MinIO: uploads are found by their whole key, by no prefix of it."""
    abort = turns.rig.objects.abort_uploads
    turns.rig.objects.abort_uploads = (  # type: ignore[method-assign]
        lambda prefix: 0 if prefix.endswith("/") else abort(prefix)
    )


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "failed"])
def test_a_store_that_finds_uploads_by_their_whole_key_is_swept_too(
    turns: Turns, killed: bool
) -> None:
    exact_keys_only(turns)
    key = turns.rig.remote.data_key(turns.rig.local[0])
    if killed:
        half = leave_half(turns, key)
    else:
        turns.uploader.offer(turns.rig.local[2])
        turns.until_idle()
        turns.rig.remote.listing()
        for path in turns.rig.objects.root.rglob("*.*"):
            path.unlink()
        turns.rig.before("put", lambda: (leave_half(turns, key), fail())[0])
        turns.uploader.offer(turns.rig.local[0])
        wait_s = turns.uploader.turn()
        half = turns.rig.objects.root / (key + HALF)
        assert half.exists()
        turns.clock.advance(round((wait_s or 0.0) * SECOND_NS) + 60 * SECOND_NS)
    turns.uploader.offer(turns.rig.local[1])
    turns.until_idle()
    assert not half.exists()


def fail() -> None:
    raise away()


def test_a_rivals_upload_is_not_swept_away(turns: Turns) -> None:
    half = leave_half(turns, f"{PLACE}theirs")
    for at in (0, 1):
        turns.rig.put(turns.rig.local[at])
    turns.words["epoch"] = 1
    turns.uploader.offer(turns.rig.renumber(turns.rig.local[0], 1 << 32 | 1))
    turns.until_idle()
    assert half.exists()


@pytest.mark.parametrize("minds", [True, False])
def test_a_store_that_does_not_mind_only_if_absent_is_told(turns: Turns, minds: bool) -> None:
    put = turns.rig.objects.put_if_absent

    def careless(key: str, data: bytes) -> bool:
        place = turns.rig.objects.root / key
        place.unlink(missing_ok=True)
        return put(key, data)

    if not minds:
        turns.rig.objects.put_if_absent = careless  # type: ignore[method-assign]
    for manifest in turns.rig.local[:2]:
        turns.uploader.offer(manifest)
        turns.uploader.turn()
        turns.horizon.turn()
    told = turns.told("remote_untidy")
    assert [each["what"] for each in told] == ([] if minds else ["probe"]), "once a life"
    assert all("only if absent" in each["why"] for each in told)
    assert len(turns.rig.keys()) == 2, "the probe leaves nothing"
