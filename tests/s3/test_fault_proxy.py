"""The fault proxy, on the real one before the real S3 server: each fault is what it says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from sda_pipeline.clock import SystemClock
from tests.servers.fault_proxy import FaultProxies, FaultProxy
from tests.servers.s3_server import S3Server

BODY = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def proxy(proxies: FaultProxies, s3: S3Server) -> Iterator[FaultProxy]:
    """A proxy before the shared server, which holds an object."""
    s3.client().put_object(Bucket=s3.bucket, Key="proxied", Body=BODY)
    proxy = proxies.add(s3.port.address)
    assert get(s3, proxy) == BODY
    yield proxy
    proxy.heal()
    assert get(s3, proxy) == BODY


def get(s3: S3Server, proxy: FaultProxy, timeout_s: float = 5.0) -> bytes:
    client = s3.client(f"http://{proxy.address}", timeout_s=timeout_s)
    content: bytes = client.get_object(Bucket=s3.bucket, Key="proxied")["Body"].read()
    return content


def took_s(s3: S3Server, proxy: FaultProxy) -> float:
    clock = SystemClock()
    began = clock.monotonic_ns()
    assert get(s3, proxy) == BODY
    return (clock.monotonic_ns() - began) / 1e9


def test_down_refuses(s3: S3Server, proxy: FaultProxy) -> None:
    proxy.down()
    with pytest.raises(EndpointConnectionError):
        get(s3, proxy)


def test_a_black_hole_is_silent(s3: S3Server, proxy: FaultProxy) -> None:
    proxy.blackhole()
    with pytest.raises(ReadTimeoutError):
        get(s3, proxy, timeout_s=0.3)


def test_a_reset_ends_the_connection(s3: S3Server, proxy: FaultProxy) -> None:
    proxy.reset()
    with pytest.raises(ConnectionClosedError):
        get(s3, proxy)


def test_a_body_is_cut(s3: S3Server, proxy: FaultProxy) -> None:
    proxy.cut_after(len(BODY) // 2)
    with pytest.raises(BotoCoreError):
        get(s3, proxy)


def test_a_delay_delays(s3: S3Server, proxy: FaultProxy) -> None:
    proxy.delay(400)
    assert took_s(s3, proxy) >= 0.4


def test_a_throttle_throttles(s3: S3Server, proxy: FaultProxy) -> None:
    proxy.throttle(2048)
    assert took_s(s3, proxy) >= 0.3
