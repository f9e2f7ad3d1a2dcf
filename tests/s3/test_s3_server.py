"""The scripts that run the S3 server, on the real one: it stores, refuses, survives."""

from __future__ import annotations

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from tests.servers.s3_server import S3Server
from tests.servers.server_fixtures import NewS3


def status(error: pytest.ExceptionInfo[ClientError]) -> int:
    return int(error.value.response["ResponseMetadata"]["HTTPStatusCode"])


def read(s3: S3Server, key: str) -> bytes:
    content: bytes = s3.client().get_object(Bucket=s3.bucket, Key=key)["Body"].read()
    return content


def test_what_is_put_is_got_and_put_only_if_absent(s3: S3Server) -> None:
    client = s3.client()
    client.put_object(Bucket=s3.bucket, Key="put/a", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as refused:
        client.put_object(Bucket=s3.bucket, Key="put/a", Body=b"second", IfNoneMatch="*")
    assert status(refused) == 412
    assert read(s3, "put/a") == b"first"


def test_a_stranger_is_refused(s3: S3Server) -> None:
    client = s3.client(secret_key="wrong")
    with pytest.raises(ClientError) as refused:
        client.list_objects_v2(Bucket=s3.bucket)
    assert status(refused) == 403


def test_a_killed_server_keeps_what_it_acknowledged(new_s3: NewS3) -> None:
    s3 = new_s3()
    s3.client().put_object(Bucket=s3.bucket, Key="kept", Body=b"bytes")
    s3.kill()
    with pytest.raises(EndpointConnectionError):
        s3.client().list_buckets()
    s3.start()
    assert read(s3, "kept") == b"bytes"


def test_a_paused_server_is_connected_and_silent(new_s3: NewS3) -> None:
    s3 = new_s3()
    s3.pause()
    with pytest.raises(ReadTimeoutError):
        s3.client(timeout_s=0.3).list_buckets()
    s3.resume()
    assert s3.client().list_buckets()["Buckets"]
