"""One DLQ entry, schema versions 1 and 2, and its line. Not the files it lies in.

Version 1 is SPEC 7. Version 2 adds one optional field, ``catalogue``: 16 hexadecimal digits that
name the catalogue, sensors and physics the record was judged by (those of the log record). While
they are the ones in use, whatever was refused by a rule will be refused again; ``sda-reprocess``
says so beforehand. It is "" where it is not known: in entries that were written as version 1. A
writer writes the newest version, a reader reads both; ``sda-reprocess migrate`` rewrites old files
(``migration.py``). A version that is not in ``VERSIONS`` is never guessed.

A line is one JSON object closed by ``"crc"``, the CRC-32 of everything before it: without it a
flipped byte inside the base64 payload would go unseen. Lines without ``crc`` are read unchecked.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from hashlib import blake2b

import msgspec

from sda_pipeline.errors import SdaError
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.rejects import Reject, RejectHead

SCHEMA_VERSION = 2
_CRC_KEY = b',"crc":'
_MS_NS = SECOND_NS // 1000


class EntryError(SdaError):
    """A line that is no entry this release can read: damaged, or of an unknown schema version.

    ``version`` is that one; None of a line that is damaged.
    """

    def __init__(self, why: str, hint: str = "", version: int | None = None) -> None:
        super().__init__("read a DLQ entry", why, hint)
        self.version = version


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A refused record with its original bytes. Fields after ``original_payload`` are additive."""

    schema_version: int = SCHEMA_VERSION
    timestamp_unix_ms: int  # when the source reported it
    operator: str
    error_kind: str  # an ErrorKind value
    error_message: str
    retry_count: int
    original_payload: bytes  # base64 in JSON
    dlq_id: str = ""
    root: str = ""  # dlq_id of the first rejection when this is a re-injected record, else dlq_id
    topic: str = ""
    generation: int = 0
    partition: int = 0
    offset: int = 0
    message_timestamp_ms: int = 0  # the broker's, which re-injection keeps
    key: str = ""  # the key's bytes as Latin-1: any bytes come back exactly
    sensor: str = ""
    attempts: int = 0  # re-injections that ended here
    log_id: str = ""  # 16 hexadecimal digits
    log_position: int = 0
    index: int = 0  # within its log position
    catalogue: str = ""  # since version 2, see above

    @property
    def key_bytes(self) -> bytes:
        """The message key as the broker had it."""
        return self.key.encode("latin-1")


def dlq_id(
    operator: str, topic: str, generation: int, partition: int, offset: int, *, error_kind: str
) -> str:
    """The stable name of a rejection: 32 hexadecimal digits, equal however often it is written."""
    fields = [operator, topic, generation, partition, offset, error_kind]
    return blake2b(msgspec.json.encode(fields), digest_size=16).hexdigest()


def entry_of(reject: Reject, head: RejectHead, index: int, operator: str, topic: str) -> Entry:
    """The entry of one reject at ``index`` of its log position. Pure: no clock is read."""
    name = dlq_id(
        operator, topic, reject.generation, reject.partition, reject.offset, error_kind=reject.kind
    )
    return Entry(
        timestamp_unix_ms=head.ingest // _MS_NS,
        operator=operator,
        error_kind=reject.kind,
        error_message=reject.message,
        retry_count=reject.attempts,
        original_payload=reject.raw,
        dlq_id=name,
        root=reject.root or name,
        topic=topic,
        generation=reject.generation,
        partition=reject.partition,
        offset=reject.offset,
        message_timestamp_ms=reject.timestamp_ms,
        key=reject.key.decode("latin-1"),
        sensor=reject.sensor,
        attempts=reject.attempts,
        log_id=f"{head.log_id:016x}",
        log_position=head.position,
        index=index,
        catalogue=f"{head.catalogue:016x}" if head.catalogue else "",
    )


def encode_line(entry: Entry) -> bytes:
    """The entry's line with its newline, in the newest version, whichever it was read in."""
    if entry.schema_version != SCHEMA_VERSION:
        entry = msgspec.structs.replace(entry, schema_version=SCHEMA_VERSION)
    body = msgspec.json.encode(entry)[:-1]
    return b"%b%b%d}\n" % (body, _CRC_KEY, zlib.crc32(body))


def is_whole(line: bytes) -> bool:
    """Whether a line is what was written, whatever release wrote it: by its CRC alone, when it has
    one.
    """
    body, found, tail = line.strip().rpartition(_CRC_KEY)
    if found:
        return tail == b"%d}" % zlib.crc32(body)
    try:
        _peek.decode(line)
    except (msgspec.MsgspecError, ValueError):
        return False
    return True


class _Peek(msgspec.Struct):
    schema_version: int


_peek = msgspec.json.Decoder(_Peek)
_read_newest = msgspec.json.Decoder(Entry).decode


def _read_v1(line: bytes) -> Entry:
    """In version 1 a field named ``catalogue`` would be none of ours."""
    entry = _read_newest(line)
    return msgspec.structs.replace(entry, catalogue="") if entry.catalogue else entry


_READERS: dict[int, Callable[[bytes], Entry]] = {1: _read_v1, 2: _read_newest}
VERSIONS = tuple(sorted(_READERS))
assert VERSIONS[-1] == SCHEMA_VERSION, "what is written can be read"


def decode_line(line: bytes) -> Entry:
    """Read a line back by its ``schema_version``; EntryError when that cannot be."""
    body, found, tail = line.strip().rpartition(_CRC_KEY)
    if found and tail != b"%d}" % zlib.crc32(body):
        raise EntryError("its CRC is wrong")
    try:
        version = _peek.decode(line).schema_version
        reader = _READERS.get(version)
        if reader is None:
            why = f"its schema version is {version}, this release reads {[*VERSIONS]}"
            raise EntryError(why, "use the release that wrote it", version)
        return reader(line)
    except (msgspec.MsgspecError, ValueError) as error:
        raise EntryError(str(error)) from error
