"""What boto3's failures before and after a call mean: whose fault, and whether it may pass. Without
a server; what one answers is in tests/s3.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from sda_pipeline.state.objects import RemoteError
from sda_pipeline.state.replica import S3Objects, _answered
from sda_pipeline.topology import S3Settings
from sda_pipeline.vocabulary import RemoteFault

NOBODY = "http://127.0.0.1:1"
SOURCES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in SOURCES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def listed() -> RemoteError:
    settings = S3Settings("bucket", "p", NOBODY)
    with pytest.raises(RemoteError) as error:
        S3Objects(settings, attempts=1, connect_s=1, read_s=1).list("a/")
    return error.value


def no_source(_: pytest.MonkeyPatch, __: Path) -> None:
    """Such as a metadata service that is away."""


def no_token_file(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/sda")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(root / "none"))


def no_helper(_: pytest.MonkeyPatch, root: Path) -> None:
    (root / "config").write_text(f"[default]\ncredential_process = {root}/none\n")


def helper_that_fails(_: pytest.MonkeyPatch, root: Path) -> None:
    (root / "config").write_text("[default]\ncredential_process = /bin/false\n")


@pytest.mark.parametrize("away", [no_source, no_token_file, no_helper, helper_that_fails])
def test_credentials_that_are_not_to_be_had_may_come(
    away: Callable[[pytest.MonkeyPatch, Path], None], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    away(monkeypatch, tmp_path)
    error = listed()
    assert (error.fault, error.passing) == (RemoteFault.DENIED, True), error
    assert "s3://bucket/" in str(error)


def test_half_of_a_key_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    error = listed()
    assert (error.fault, error.passing) == (RemoteFault.DENIED, False)


@pytest.mark.parametrize(
    ("status", "code", "fault", "passing"),
    [
        (403, "AccessDenied", RemoteFault.DENIED, False),
        (403, "QuotaExceeded", RemoteFault.FULL, True),
        (404, "NoSuchKey", RemoteFault.MISSING, False),
        (409, "ConditionalRequestConflict", RemoteFault.CONFLICT, True),
        (412, "PreconditionFailed", RemoteFault.CONFLICT, False),
        (429, "TooManyRequests", RemoteFault.OVERLOADED, True),
        (500, "InternalError", RemoteFault.OVERLOADED, True),
        (501, "NotImplemented", RemoteFault.DENIED, False),
        (503, "SlowDown", RemoteFault.OVERLOADED, True),
        (507, "XMinioStorageFull", RemoteFault.FULL, True),
    ],
)
def test_what_an_answer_means(status: int, code: str, fault: RemoteFault, passing: bool) -> None:
    reply = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = _answered("list it", ClientError(reply, "ListObjectsV2"))  # type: ignore[arg-type]
    assert (error.fault, error.passing) == (fault, passing)
