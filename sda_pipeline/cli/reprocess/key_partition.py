"""To which partition a producer of ours sends a key. Pure; asks no broker."""

from __future__ import annotations

from sda_pipeline.broker.connect import EMBEDDED
from sda_pipeline.broker.stored_batch import partition_of

_U32 = 0xFFFFFFFF
_SEED, _MULTIPLIER = 0x9747B28C, 0x5BD1E995


def leads_to(url: str, key: bytes, partitions: int) -> int:
    """The partition of ``partitions`` at the broker of this URL."""
    if url.startswith(EMBEDDED):
        return partition_of(key, partitions)
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Austin Appleby's MurmurHash2 with the seed of Kafka's clients, which our producer uses."""
    found = _SEED ^ len(data)
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * _MULTIPLIER & _U32
        word = (word ^ word >> 24) * _MULTIPLIER & _U32
        found = found * _MULTIPLIER & _U32 ^ word
    if whole < len(data):
        found = (found ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _U32
    found = (found ^ found >> 13) * _MULTIPLIER & _U32
    return found ^ found >> 15
