"""One DLQ entry: its line, its stable name, what readers refuse."""

from __future__ import annotations

import base64
import json
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sda_pipeline.dlq.entry import (
    Entry,
    EntryError,
    decode_line,
    dlq_id,
    encode_line,
    entry_of,
)
from sda_pipeline.vocabulary import ErrorKind
from tests.unit.dlq_rig import head, reject

REQUIRED = {  # SPEC 7
    "schema_version", "timestamp_unix_ms", "operator", "error_kind", "error_message",
    "retry_count", "original_payload",
}  # fmt: skip
ADDITIVE = {
    "dlq_id", "topic", "partition", "offset", "key", "sensor", "attempts", "log_position", "index",
    "log_id",
}  # fmt: skip


def _entry(**changes: object) -> Entry:
    return entry_of(reject(7, **changes), head(3, 1), 0, "radar", "sda.obs.radar")


def test_a_line_has_every_field_of_the_specification() -> None:
    line = json.loads(encode_line(_entry(raw=b"\x00\xff{")))
    assert set(line) >= REQUIRED | ADDITIVE
    assert (line["schema_version"], line["catalogue"]) == (2, "00000000000000c0")
    assert base64.b64decode(line["original_payload"]) == b"\x00\xff{"
    assert line["log_id"] == "00000000000000aa"
    assert (line["operator"], line["topic"], line["offset"]) == ("radar", "sda.obs.radar", 7)


@given(
    raw=st.binary(max_size=300), key=st.binary(max_size=20), message=st.text(max_size=50),
    sensor=st.text(max_size=10), root=st.text("0123456789abcdef", max_size=32),
)  # fmt: skip
def test_what_is_written_is_read_back(**fields: object) -> None:
    entry = _entry(**fields)
    line = encode_line(entry)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode_line(line) == entry
    assert decode_line(line).key_bytes == fields["key"]


def test_the_name_depends_on_the_coordinates_and_the_kind_only() -> None:
    name = dlq_id("radar", "t", 1, 2, 3, error_kind="K")
    assert name == dlq_id("radar", "t", 1, 2, 3, error_kind="K")
    assert len(name) == 32
    assert _entry(raw=b"1", message="x").dlq_id == _entry(raw=b"2", message="y").dlq_id
    others = {
        dlq_id("optical", "t", 1, 2, 3, error_kind="K"),
        dlq_id("radar", "u", 1, 2, 3, error_kind="K"),
        dlq_id("radar", "t", 9, 2, 3, error_kind="K"),
        dlq_id("radar", "t", 1, 9, 3, error_kind="K"),
        dlq_id("radar", "t", 1, 2, 9, error_kind="K"),
        dlq_id("radar", "t", 1, 2, 3, error_kind="L"),
    }
    assert len(others | {name}) == 7


def test_the_name_never_changes_between_releases() -> None:
    name = dlq_id("radar", "sda.obs.radar", 0, 0, 7, error_kind=ErrorKind.DESERIALIZATION)
    assert name == "0c1427d3bfb38c450298f6428a532971"


def test_a_re_injected_record_keeps_its_root_and_its_attempts() -> None:
    first = _entry()
    assert (first.root, first.attempts) == (first.dlq_id, 0)
    again = _entry(root="ab" * 16, attempts=2)
    assert (again.root, again.attempts, again.retry_count) == ("ab" * 16, 2, 2)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_never_gives_another_entry(at: int, mask: int) -> None:
    entry = _entry()
    line = bytearray(encode_line(entry))
    line[at % (len(line) - 1)] ^= mask
    with suppress(EntryError):
        assert decode_line(bytes(line)) == entry


def test_what_judged_it_is_left_open_when_it_is_not_known() -> None:
    entry = entry_of(reject(7), head(3, 1)._replace(catalogue=0), 0, "radar", "sda.obs.radar")
    assert entry.catalogue == ""


def test_an_unknown_version_is_not_guessed() -> None:
    line = json.dumps({**json.loads(encode_line(_entry())), "schema_version": 3}).encode()
    with pytest.raises(EntryError, match=r"schema version is 3, this release reads \[1, 2\]") as no:
        decode_line(line)
    assert no.value.version == 3


def test_version_one_is_read_and_written_back_as_the_newest() -> None:
    old = {**json.loads(encode_line(_entry())), "schema_version": 1}
    del old["crc"], old["catalogue"]
    read = decode_line(json.dumps(old).encode())
    assert (read.schema_version, read.catalogue) == (1, "")
    assert decode_line(encode_line(read)) == msgspec.structs.replace(read, schema_version=2)
    foreign = json.dumps({**old, "catalogue": "of somebody else"}).encode()
    assert decode_line(foreign) == read, "version 1 has no such field"


def test_a_line_of_version_one_without_additive_fields_is_read() -> None:
    full = json.loads(encode_line(_entry(raw=b"abc")))
    line = json.dumps({name: full[name] for name in REQUIRED} | {"unknown": 1}).encode()
    entry = decode_line(line)
    assert (entry.original_payload, entry.dlq_id, entry.key_bytes) == (b"abc", "", b"")


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b"null", b'{"schema_version":"1"}', b"\xff"])
def test_what_is_no_entry_is_refused(line: bytes) -> None:
    with pytest.raises(EntryError, match="cannot read a DLQ entry"):
        decode_line(line)
