"""A real S3 server (VersityGW over a directory) on loopback. Not the pipeline's client.

The directory outlives the server: what is started again keeps its objects. Credentials are made
anew for every instance.
"""

from __future__ import annotations

import http.client
import secrets
from pathlib import Path
from typing import Any

from tests.servers.loopback_ports import HOST, Port
from tests.servers.recipes import VERSITYGW
from tests.servers.server_process import Served, ServerProcess

REGION = "us-east-1"
BUCKET = "sda-snapshots"
_HEALTH = "/healthy"
_ANSWER_WITHIN_S = 1.0


class S3Server(Served):
    """``with S3Server(directory) as s3: s3.client().put_object(Bucket=s3.bucket, ...)``."""

    def __init__(self, directory: Path, bucket: str = BUCKET) -> None:
        self.directory, self.bucket = directory, bucket
        self.access_key, self.secret_key = secrets.token_hex(10), secrets.token_urlsafe(30)
        self.port = Port()
        (directory / "buckets").mkdir(parents=True, exist_ok=True)
        argv = [
            str(VERSITYGW.installed()), "--port", self.port.address, "--region", REGION,
            "--keep-alive", "--quiet", "--health", _HEALTH, "posix", str(directory / "buckets"),
        ]  # fmt: skip
        secret = {"ROOT_ACCESS_KEY_ID": self.access_key, "ROOT_SECRET_ACCESS_KEY": self.secret_key}
        self.process = ServerProcess("the S3 server", argv, directory / "s3.log", secret)

    @property
    def endpoint(self) -> str:
        """Without a proxy: tests put one before ``port`` and give its address instead."""
        return f"http://{self.port.address}"

    def environment(self) -> dict[str, str]:
        """The variables by which any S3 client finds its credentials."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(
        self,
        endpoint: str | None = None,
        *,
        timeout_s: float = 5.0,
        secret_key: str | None = None,
    ) -> Any:
        """A boto3 client that tries once, waits ``timeout_s``, and asks no environment."""
        import boto3
        from botocore.config import Config

        settings = Config(
            connect_timeout=timeout_s,
            read_timeout=timeout_s,
            retries={"total_max_attempts": 1},
            proxies={},
            s3={"addressing_style": "path"},
        )
        return boto3.client(
            "s3", endpoint_url=endpoint or self.endpoint, region_name=REGION, config=settings,
            aws_access_key_id=self.access_key, aws_secret_access_key=secret_key or self.secret_key,
        )  # fmt: skip

    def start(self) -> None:
        """Start it, wait until it answers, make the bucket if it is not there."""
        self.process.start()
        self.process.await_ready(self.answers)
        client = self.client()
        if self.bucket not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=self.bucket)

    def answers(self) -> bool:
        """Whether its health page says so."""
        connection = http.client.HTTPConnection(HOST, self.port.number, timeout=_ANSWER_WITHIN_S)
        try:
            connection.request("GET", _HEALTH)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """SIGTERM; SIGKILL when it is not down in time."""
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def pause(self) -> None:
        """SIGSTOP: connected, silent."""
        self.process.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self.process.resume()

    def close(self) -> None:
        """Kill it and give the port back; the directory stays."""
        self.kill()
        self.port.release()
