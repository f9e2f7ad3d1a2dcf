"""Recordings: JSON Lines of messages with their keys and broker timestamps (SPEC 8). Sends nothing.

A line holds ``topic``, ``key``, and ``value`` (the JSON object itself) or ``raw`` (base64 of any
bytes); ``headers`` (names to texts) and ``timestamp_ms`` are optional.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
import orjson

from sda_pipeline.broker.port import Headers
from sda_pipeline.cli.sim.traffic import Message
from sda_pipeline.errors import UsageError


class Recorded(NamedTuple):
    """One line of a recording. ``timestamp_ms`` None: whenever it is played."""

    topic: str
    key: bytes
    value: bytes
    timestamp_ms: int | None
    headers: Headers = ()


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    topic: str
    key: str
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    raw: str | msgspec.UnsetType = msgspec.UNSET
    headers: dict[str, str] = {}
    timestamp_ms: int | None = None


_decode = msgspec.json.Decoder(_Line).decode


def line(message: Message, *, plain: bool) -> bytes:
    """One line; ``plain``: the value is a JSON object without line ends, else it goes as raw."""
    head = b'{"topic":%b,"key":%b,' % (
        orjson.dumps(message.topic),
        orjson.dumps(message.key.decode()),
    )
    if plain:
        body = b'"value":' + message.value
    else:
        body = b'"raw":"' + base64.b64encode(message.value) + b'"'
    return head + body + b',"timestamp_ms":%d}\n' % message.timestamp_ms


def write_lines(file: BinaryIO, messages: Iterator[tuple[Message, bool]]) -> int:
    """Write (message, plain) pairs; returns how many."""
    count = 0
    for message, plain in messages:
        file.write(line(message, plain=plain))
        count += 1
    return count


def read_recording(path: Path) -> Iterator[tuple[Recorded, int]]:
    """Every message of a recording with the bytes read so far; UsageError names a bad line."""
    try:
        file = path.open("rb")
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"play {path}", why, "name a file made by `sda-sim record`") from error
    with file:
        position = 0
        for number, text in enumerate(file, start=1):
            position += len(text)
            if text.strip():
                yield _parse(path, number, text), position


def _parse(path: Path, number: int, text: bytes) -> Recorded:
    try:
        found = _decode(text)
        headers = tuple((name, value.encode()) for name, value in found.headers.items())
        return Recorded(found.topic, found.key.encode(), _value(found), found.timestamp_ms, headers)
    except (msgspec.DecodeError, binascii.Error, ValueError, RecursionError) as error:
        raise UsageError(
            f"play {path}",
            f"line {number}: {error}",
            "correct the line; see `sda-sim record --help`",
        ) from error


def _value(found: _Line) -> bytes:
    if isinstance(found.value, msgspec.Raw) == isinstance(found.raw, str):
        raise ValueError("exactly one of value and raw is needed")
    if isinstance(found.raw, str):
        return base64.b64decode(found.raw, validate=True)
    assert isinstance(found.value, msgspec.Raw)
    return bytes(found.value)
