"""The object-store contract on the real S3 server, and what only a real one can show: kills,
time-outs, cut bodies, wrong credentials.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sda_pipeline.clock import SystemClock
from sda_pipeline.state.objects import Fetched, Found, Moved, RemoteError
from sda_pipeline.state.replica import S3Objects
from sda_pipeline.topology import S3Settings
from sda_pipeline.vocabulary import RemoteFault
from tests.contracts.objects_suite import MULTIPART_ABOVE, PART, ObjectsSuite, made
from tests.process.site import ROOT
from tests.process.waiting import wait_until
from tests.servers.fault_proxy import FaultProxies, FaultProxy
from tests.servers.overloaded_store import overloaded_store
from tests.servers.s3_server import REGION, S3Server
from tests.servers.server_fixtures import NewS3

READ_S = 1.0
_UPLOADER = Path(__file__).with_name("upload_child.py")


def connected(server: S3Server, endpoint: str = "", *, attempts: int = 1) -> S3Objects:
    settings = S3Settings(server.bucket, "p", endpoint or server.endpoint, REGION)
    return S3Objects(
        settings, attempts=attempts, connect_s=READ_S, read_s=READ_S,
        multipart_above=MULTIPART_ABOVE, part_bytes=PART,
    )  # fmt: skip


class Apart:
    """A store in which every key has a prefix of the test's own."""

    def __init__(self, objects: S3Objects) -> None:
        self.objects, self.prefix = objects, f"c-{secrets.token_hex(6)}/"

    def put_file(self, key: str, path: Path, expected: Fetched, moved: Moved) -> None:
        self.objects.put_file(self.prefix + key, path, expected, moved)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self.objects.put_if_absent(self.prefix + key, data)

    def get(self, key: str) -> bytes:
        return self.objects.get(self.prefix + key)

    def get_file(self, key: str, target: Path, moved: Moved) -> Fetched:
        return self.objects.get_file(self.prefix + key, target, moved)

    def list(self, prefix: str) -> list[Found]:
        found = self.objects.list(self.prefix + prefix)
        return [Found(f.key.removeprefix(self.prefix), f.size_bytes) for f in found]

    def delete(self, key: str) -> None:
        self.objects.delete(self.prefix + key)

    def abort_uploads(self, prefix: str) -> int:
        return self.objects.abort_uploads(self.prefix + prefix)


class TestS3Objects(ObjectsSuite):
    """Every promise of the port."""

    @pytest.fixture
    def objects(self, credentials: None, s3: S3Server) -> Apart:
        return Apart(connected(s3))

    @pytest.fixture
    def leave_upload(self, s3: S3Server, objects: Apart) -> Callable[[str], None]:
        def leave(key: str) -> None:
            s3.client().create_multipart_upload(Bucket=s3.bucket, Key=objects.prefix + key)

        return leave


@pytest.fixture
def proxy(credentials: None, proxies: FaultProxies, s3: S3Server) -> FaultProxy:
    return proxies.add(s3.port.address)


@pytest.fixture
def through(proxy: FaultProxy, s3: S3Server) -> Apart:
    """The store behind the proxy, one attempt a call."""
    return Apart(connected(s3, f"http://{proxy.address}"))


def test_a_refused_connection_may_pass(proxy: FaultProxy, through: Apart) -> None:
    proxy.down()
    with pytest.raises(RemoteError) as error:
        through.list("a/")
    assert (error.value.fault, error.value.passing) == (RemoteFault.UNREACHABLE, True)
    assert "set AWS_" not in str(error.value)


def test_a_silent_store_is_given_up_in_time(proxy: FaultProxy, s3: S3Server) -> None:
    proxy.blackhole()
    attempts, clock = 2, SystemClock()
    silent = connected(s3, f"http://{proxy.address}", attempts=attempts)
    began = clock.monotonic_ns()
    with pytest.raises(RemoteError) as error:
        silent.list("a/")
    assert (error.value.fault, error.value.passing) == (RemoteFault.TIMED_OUT, True)
    took_s = (clock.monotonic_ns() - began) / 1e9
    assert READ_S * attempts <= took_s, "it was tried twice"
    assert took_s <= attempts * (READ_S + 1.0) + 2.0**attempts + 20.0, "a bound, not a timing"


def test_a_body_that_is_cut_is_no_object(
    proxy: FaultProxy, through: Apart, s3: S3Server, tmp_path: Path
) -> None:
    through.put_file("a/1.snap", *made(tmp_path / "f", 1 << 20), lambda: None)
    proxy.cut_after(300_000)
    with pytest.raises(RemoteError) as error:
        through.get_file("a/1.snap", tmp_path / "back", lambda: None)
    assert (error.value.fault, error.value.passing) == (RemoteFault.UNREACHABLE, True)


def test_an_upload_that_is_cut_leaves_what_was_there(
    proxy: FaultProxy, through: Apart, s3: S3Server, tmp_path: Path
) -> None:
    old, expected = made(tmp_path / "old", 1 << 20)
    through.put_file("a/1.snap", old, expected, lambda: None)
    proxy.cut_after(300_000, "upstream")
    with pytest.raises(RemoteError) as error:
        through.put_file("a/1.snap", *made(tmp_path / "new", 2 << 20), lambda: None)
    assert error.value.passing
    proxy.heal()
    assert through.get_file("a/1.snap", tmp_path / "back", lambda: None) == expected


def test_a_lost_reply_to_the_conditional_put_is_our_own_write(
    proxy: FaultProxy, s3: S3Server
) -> None:
    # The reply never comes, the second attempt is answered 412: what is there is ours.
    twice = Apart(connected(s3, f"http://{proxy.address}", attempts=2))
    direct = connected(s3)
    twice.list("a/")  # a connection that is open already
    proxy.cut_after(1)
    with pytest.raises(RemoteError):
        twice.put_if_absent("a/1.json", b"ours")
    assert direct.get(f"{twice.prefix}a/1.json") == b"ours", "it did arrive"
    proxy.heal()
    assert twice.put_if_absent("a/1.json", b"ours")
    assert not twice.put_if_absent("a/1.json", b"another's")


def test_a_lost_reply_to_the_end_of_a_multipart_upload_is_our_own_write(
    proxy: FaultProxy, s3: S3Server, tmp_path: Path
) -> None:
    # Its parts have become the object, the reply is cut, and the attempt after it finds no upload.
    often = Apart(connected(s3, f"http://{proxy.address}", attempts=8))
    direct = Apart(connected(s3))
    direct.prefix = often.prefix
    path, expected = made(tmp_path / "f", 2 * PART + 7)
    sent: list[None] = []

    def cut_after_the_last_part() -> None:
        sent.append(None)
        if len(sent) == 3:
            proxy.cut_after(1)
            threading.Thread(target=heal_when_there).start()

    def heal_when_there() -> None:
        wait_until(lambda: direct.list("a/"), lambda: "the upload never ended")
        proxy.heal()

    often.put_file("a/1.snap", path, expected, cut_after_the_last_part)
    assert direct.get_file("a/1.snap", tmp_path / "back", lambda: None) == expected
    assert direct.abort_uploads("a/") == 0


@pytest.mark.parametrize(("status", "code"), [(507, "XMinioStorageFull"), (403, "QuotaExceeded")])
def test_a_full_store_that_says_so_is_full(status: int, code: str, credentials: None) -> None:
    with overloaded_store(status, code) as endpoint:
        objects = S3Objects(S3Settings("bucket", "p", endpoint, REGION))
        with pytest.raises(RemoteError, match=f"{status} {code}; free some space") as error:
            objects.put_if_absent("a/1.json", b"x")
    assert (error.value.fault, error.value.passing) == (RemoteFault.FULL, True)


def test_a_connection_cut_inside_an_interim_answer_does_not_hang(
    proxy: FaultProxy, through: Apart
) -> None:
    # With "Expect: 100-continue" botocore would look for the rest of that answer for ever.
    through.list("a/")
    proxy.cut_after(24)
    with contextlib.suppress(RemoteError):
        through.put_if_absent("a/1.json", b"ours")
    proxy.heal()
    assert through.get("a/1.json") == b"ours", "the body went with the head"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "403 SignatureDoesNotMatch"),
        ("AWS_ACCESS_KEY_ID", "nobody", "check bucket, credentials"),
        ("AWS_SECRET_ACCESS_KEY", None, "credentials"),
    ],
)
def test_wrong_credentials_do_not_pass(
    name: str, value: str | None, said: str, credentials: None, s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(RemoteError, match=said) as error:
        connected(s3).list("a/")
    assert (error.value.fault, error.value.passing) == (RemoteFault.DENIED, False)
    assert s3.secret_key not in str(error.value)


def test_no_such_bucket_does_not_pass(credentials: None, s3: S3Server) -> None:
    settings = S3Settings("no-such-bucket", "p", s3.endpoint, REGION)
    with pytest.raises(RemoteError, match="404 NoSuchBucket") as error:
        S3Objects(settings).list("a/")
    assert (error.value.fault, error.value.passing) == (RemoteFault.DENIED, False)


@pytest.mark.process
def test_an_upload_killed_between_two_parts_is_swept(
    credentials: None, s3: S3Server, tmp_path: Path
) -> None:
    objects = Apart(connected(s3))
    path, _ = made(tmp_path / "f", 3 * PART)
    argv = [sys.executable, str(_UPLOADER), s3.endpoint, s3.bucket, f"{objects.prefix}a/1", path]
    done = subprocess.run(argv, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == -signal.SIGKILL
    assert objects.list("a/") == []
    assert objects.abort_uploads("a/") == 1
    assert objects.abort_uploads("a/") == 0


def test_a_killed_server_is_called_again_when_it_is_back(new_s3: NewS3) -> None:
    server = new_s3()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        objects = connected(server)
        objects.put_if_absent("a/1", b"x")
        server.kill()
        with pytest.raises(RemoteError) as error:
            objects.get("a/1")
        assert error.value.passing
        server.start()
        wait_until(lambda: objects.get("a/1") == b"x", server.process.story)
