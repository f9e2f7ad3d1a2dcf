"""From a broker URL of the topology to a consumer or a producer. The one list of schemes."""

from __future__ import annotations

from pathlib import Path

from sda_pipeline.broker.embedded import EmbeddedConsumer, EmbeddedProducer
from sda_pipeline.broker.port import Consumer, Producer
from sda_pipeline.broker.storage import Storage, open_storage
from sda_pipeline.clock import Clock, SystemClock
from sda_pipeline.errors import InvalidConfiguration, SdaError
from sda_pipeline.limits import BROKER_MAP_BYTES, BROKER_RETENTION_S

EMBEDDED = "embedded:"


def open_consumer(
    url: str, topic: str, group: str, partitions_if_new: int, clock: Clock | None = None
) -> Consumer:
    """A consumer of all partitions of ``topic``, which is created when it does not exist.

    It starts where the group has committed, else at each partition's start. InvalidConfiguration
    for a wrong URL; Unreachable or StateCorrupt when the broker cannot be opened.
    """
    storage = _open(url)
    try:
        return EmbeddedConsumer(storage, topic, group, partitions_if_new, clock or SystemClock())
    except SdaError:
        storage.close()
        raise


def open_producer(
    url: str, clock: Clock | None = None, retention_s: float = BROKER_RETENTION_S
) -> Producer:
    """A producer for any topic. Errors as ``open_consumer``.

    The embedded broker's producers also delete what all groups have committed and what is older
    than ``retention_s``.
    """
    return EmbeddedProducer(_open(url), clock or SystemClock(), retention_s)


def check_url(url: str) -> str:
    """The embedded broker's directory; InvalidConfiguration for anything else."""
    directory = url.removeprefix(EMBEDDED)
    if directory == url:
        raise InvalidConfiguration(
            f"use the broker {url!r}", ["its scheme is not known"], "write embedded:DIRECTORY"
        )
    if not directory:
        raise InvalidConfiguration(
            f"use the broker {url!r}", ["it names no directory"], "write embedded:DIRECTORY"
        )
    return directory


def _open(url: str) -> Storage:
    return open_storage(Path(check_url(url)), BROKER_MAP_BYTES)
