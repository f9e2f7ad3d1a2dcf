"""The one door to S3: the object-store port by boto3, for any endpoint that speaks S3.

Credentials come from boto3's usual chain. A call is tried REMOTE_ATTEMPTS times and takes at most
REMOTE_CALL_S, unless bytes keep trickling. Each body is signed, so the server refuses one that was
cut or changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore import exceptions as failures
from botocore.config import Config
from botocore.parsers import ResponseParserError

from sda_pipeline.errors import StateCorrupt
from sda_pipeline.limits import (
    MIB,
    MULTIPART_ABOVE_BYTES,
    PART_BYTES,
    REMOTE_ATTEMPTS,
    REMOTE_CONNECT_S,
    REMOTE_MANIFEST_BYTES_MAX,
    REMOTE_READ_S,
)
from sda_pipeline.state.objects import Fetched, Found, Moved, RemoteError
from sda_pipeline.topology import S3Settings
from sda_pipeline.vocabulary import RemoteFault

_CHUNK_BYTES = 1 * MIB
_FULL = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "NoSpaceLeft", "StorageFull"}
_ABSENT = {"NoSuchKey", "NoSuchUpload", "404"}
_HINT = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or another of boto3's sources"
# Nothing was refused yet: a metadata service, a token file or a helper may be back in a moment.
_NO_CREDENTIALS = (failures.NoCredentialsError, failures.CredentialRetrievalError)
_TIMEOUTS = (failures.ConnectTimeoutError, failures.ReadTimeoutError)
_CUT = (
    failures.ConnectionError,  # refused, no such host
    failures.HTTPClientError,  # reset
    failures.IncompleteReadError,
    failures.ResponseStreamingError,
    ConnectionError,
    TimeoutError,
)


class S3Objects:
    """One bucket behind one endpoint. Not for several threads."""

    def __init__(
        self, settings: S3Settings, *,
        attempts: int = REMOTE_ATTEMPTS,
        connect_s: float = REMOTE_CONNECT_S, read_s: float = REMOTE_READ_S,
        multipart_above: int = MULTIPART_ABOVE_BYTES, part_bytes: int = PART_BYTES,
    ) -> None:  # fmt: skip
        self._bucket, self._settings = settings.bucket, settings
        self._multipart_above, self._part_bytes = multipart_above, part_bytes
        style = "path" if settings.endpoint else "auto"
        with self._doing("reach"):
            self._client: Any = boto3.session.Session().client(
                "s3", endpoint_url=settings.endpoint, region_name=settings.region,
                config=Config(
                    connect_timeout=connect_s, read_timeout=read_s, tcp_keepalive=True,
                    retries={"total_max_attempts": attempts, "mode": "standard"},
                    max_pool_connections=2, signature_version="s3v4",
                    s3={"addressing_style": style, "payload_signing_enabled": True},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )  # fmt: skip

        # A connection cut inside the answer to "Expect: 100-continue" makes botocore spin for ever.
        self._client.meta.events.register_last("before-call.s3", _expect_nothing)

    def put_file(self, key: str, path: Path, expected: Fetched, moved: Moved) -> None:
        with path.open("rb") as file:  # it may be pruned meanwhile: what is open stays readable
            size = os.fstat(file.fileno()).st_size
            if size != expected.size_bytes:
                raise _not_as_expected(path)
            if size <= self._multipart_above:
                data = file.read(size)
                if hashlib.sha256(data).hexdigest() != expected.sha256:
                    raise _not_as_expected(path)
                with self._doing("put", key):
                    self._client.put_object(Bucket=self._bucket, Key=key, Body=data)
                moved()
            else:
                with self._upload(key) as upload:
                    self._put_parts(key, upload, path, file.fileno(), expected, moved)
        self._check_length(key, size)

    @contextlib.contextmanager
    def _upload(self, key: str) -> Iterator[str]:
        """The id of a multipart upload, aborted if it fails; what a kill leaves is swept later."""
        place = {"Bucket": self._bucket, "Key": key}
        with self._doing("put", key):
            upload: str = self._client.create_multipart_upload(**place)["UploadId"]
        try:
            yield upload
        except BaseException:
            with contextlib.suppress(RemoteError):
                self._abort(key, upload)
            raise

    def _put_parts(
        self, key: str, upload: str, path: Path, fd: int, expected: Fetched, moved: Moved
    ) -> None:
        """All parts, then the object, if the parts were what is expected."""
        place = {"Bucket": self._bucket, "Key": key, "UploadId": upload}
        parts, digest = [], hashlib.sha256()
        for number, offset in enumerate(range(0, expected.size_bytes, self._part_bytes), 1):
            body = os.pread(fd, self._part_bytes, offset)
            digest.update(body)
            with self._doing("put", key):
                told = self._client.upload_part(**place, PartNumber=number, Body=body)
                parts.append({"PartNumber": number, "ETag": told["ETag"]})
            moved()
        if digest.hexdigest() != expected.sha256:
            raise _not_as_expected(path)
        with self._doing("put", key), contextlib.suppress(self._client.exceptions.NoSuchUpload):
            # None any more: it was done, and the reply was lost. The length will tell.
            self._client.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})

    def _check_length(self, key: str, size: int) -> None:
        with self._doing("put", key):
            found = self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"]
        if found != size:
            why = f"it holds {found} bytes of the {size} that were sent"
            raise RemoteError(self._action("put", key), why, RemoteFault.DAMAGED)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        try:
            with self._doing("put", key):
                self._client.put_object(Bucket=self._bucket, Key=key, Body=data, IfNoneMatch="*")
        except RemoteError as error:
            if error.fault is not RemoteFault.CONFLICT or error.passing:
                raise
            return self.get(key) == data  # equal: our own write, whose reply was lost
        return True

    def get(self, key: str) -> bytes:
        with self._doing("get", key):
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            with contextlib.closing(answer["Body"]) as body:
                data: bytes = body.read(REMOTE_MANIFEST_BYTES_MAX + 1)
                self._refuse_if_cut(key, len(data), answer["ContentLength"])
        return data

    def _refuse_if_cut(self, key: str, received: int, announced: int) -> None:
        action = self._action("get", key)
        if received > REMOTE_MANIFEST_BYTES_MAX:
            why = f"it has {announced} bytes, over {REMOTE_MANIFEST_BYTES_MAX}"
            raise RemoteError(action, why, RemoteFault.DAMAGED, passing=False)
        if received != announced:
            why = f"{received} of {announced} bytes came"
            raise RemoteError(action, why, RemoteFault.UNREACHABLE)

    def get_file(self, key: str, target: Path, moved: Moved) -> Fetched:
        digest, size = hashlib.sha256(), 0
        with target.open("wb") as file:
            for chunk in self._chunks(key):
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                moved()
            file.flush()
            os.fsync(file.fileno())
        return Fetched(size, digest.hexdigest())

    def _chunks(self, key: str) -> Iterator[bytes]:
        with self._doing("get", key):
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            received = 0
            with contextlib.closing(answer["Body"]) as body:
                while chunk := body.read(_CHUNK_BYTES):
                    received += len(chunk)
                    yield chunk
        if received != answer["ContentLength"]:
            why = f"{received} of {answer['ContentLength']} bytes came"
            raise RemoteError(self._action("get", key), why, RemoteFault.UNREACHABLE)

    def list(self, prefix: str) -> list[Found]:
        with self._doing("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            found = [
                Found(each["Key"], each["Size"])
                for page in pages
                for each in page.get("Contents", ())
            ]
        return sorted(found)

    def delete(self, key: str) -> None:
        with self._doing("delete", key):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def abort_uploads(self, prefix: str) -> int:
        with self._doing("abort the uploads below", prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            left = [each for page in pages for each in page.get("Uploads", ())]
        for each in left:
            self._abort(each["Key"], each["UploadId"])
        return len(left)

    def _abort(self, key: str, upload: str) -> None:
        try:
            with self._doing("abort an upload of", key):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
        except RemoteError as error:
            if error.fault is not RemoteFault.MISSING:
                raise

    def _action(self, verb: str, key: str = "") -> str:
        where = self._settings.endpoint or f"S3 in {self._settings.region}"
        return f"{verb} s3://{self._bucket}/{key} at {where}"

    @contextlib.contextmanager
    def _doing(self, verb: str, key: str = "") -> Iterator[None]:
        """Whatever boto3 raises inside becomes a RemoteError. Not for files of ours: an OSError
        inside is of boto3's own.
        """
        try:
            yield
        except failures.ClientError as error:
            raise _answered(self._action(verb, key), error) from error
        except _TIMEOUTS as error:
            why = "it did not answer in time"
            raise RemoteError(self._action(verb, key), why, RemoteFault.TIMED_OUT) from error
        except _CUT as error:
            raise RemoteError(
                self._action(verb, key), _told(error), RemoteFault.UNREACHABLE
            ) from error
        except (ResponseParserError, KeyError) as error:
            why = f"its answer is none of S3 ({_told(error)})"
            raise RemoteError(self._action(verb, key), why, RemoteFault.OVERLOADED) from error
        except (failures.BotoCoreError, ValueError, OSError) as error:
            # An OSError is not the network's: what credentials are read from or made by is away.
            passing = isinstance(error, (*_NO_CREDENTIALS, OSError))
            raise RemoteError(
                self._action(verb, key), _told(error), RemoteFault.DENIED, _HINT, passing=passing
            ) from error


def _not_as_expected(path: Path) -> StateCorrupt:
    return StateCorrupt(f"upload {path}", "it is not what its manifest says")


def _expect_nothing(params: dict[str, Any], **_: Any) -> None:
    params["headers"].pop("Expect", None)


def _answered(action: str, error: failures.ClientError) -> RemoteError:
    """What an answer that is an error means."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    fault, hint = _meaning(status, code)
    # 409: two conditional writes at once, neither is in place yet.
    passing = fault in {RemoteFault.FULL, RemoteFault.OVERLOADED} or status == 409
    why = f"it answered {status} {code}".rstrip()
    return RemoteError(action, why, fault, hint, passing=passing)


def _meaning(status: int, code: str) -> tuple[RemoteFault, str]:
    """The fault, and what to do about it where more than the usual is known."""
    if status in {409, 412}:
        return RemoteFault.CONFLICT, ""
    if code in _FULL or status == 507:
        return RemoteFault.FULL, "free some space in it"
    if status == 501:  # no waiting will teach it that
        return RemoteFault.DENIED, "use a store that implements this call"
    if status >= 500 or status == 429 or code in {"SlowDown", "RequestTimeout"}:
        return RemoteFault.OVERLOADED, ""
    if code in _ABSENT:
        return RemoteFault.MISSING, ""
    return RemoteFault.DENIED, "check bucket, credentials and permissions"


def _told(error: Exception) -> str:
    """The library's words in one line, without the query of a signed address."""
    return str(error).split("?", 1)[0].replace("\n", " ")
