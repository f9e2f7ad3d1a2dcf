"""Recordings come back as they were written; wrong ones are refused by line."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sda_pipeline.cli.sim.outfile import replacing, write_atomically
from sda_pipeline.cli.sim.recording import Recorded, line, read_recording, write_lines
from sda_pipeline.cli.sim.timeline import messages
from sda_pipeline.cli.sim.traffic import Message
from sda_pipeline.errors import SdaError, UsageError
from tests.unit.sim_rig import scene, span


def read(path: Path) -> list[Recorded]:
    return [message for message, _ in read_recording(path)]


def test_traffic_comes_back_byte_for_byte(tmp_path: Path) -> None:
    sent = [*messages(scene(), span(30.0, 35.0, rate=100.0))]
    path = tmp_path / "obs.jsonl"
    with path.open("wb") as file:
        assert write_lines(file, ((m, True) for m in sent)) == len(sent)
    assert read(path) == [Recorded(*m) for m in sent]
    first = orjson.loads(path.read_bytes().splitlines()[0])
    assert first.keys() == {"topic", "key", "value", "timestamp_ms"}
    assert first["value"] == orjson.loads(sent[0].value)
    *_, (_, position) = read_recording(path)
    assert position == path.stat().st_size


@given(value=st.binary(max_size=200), topic=st.text(max_size=20), key=st.text(max_size=20))
def test_any_bytes_survive_as_raw(value: bytes, topic: str, key: str) -> None:
    message = Message(topic, key.encode(), value, 1_775_001_600_123)
    text = line(message, plain=False)
    assert text.count(b"\n") == 1
    found = orjson.loads(text)
    assert (found["topic"], found["key"]) == (topic, key)
    assert base64.b64decode(found["raw"]) == value


def test_optional_fields_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "hand.jsonl"
    path.write_text(
        '{"topic":"t","key":"7","value":{"a": 1}}\n\n'
        '{"key":"8","raw":"AAE=","topic":"t","headers":{"dlq-id":"x"},"timestamp_ms":5}\n'
    )
    assert read(path) == [
        Recorded("t", b"7", b'{"a": 1}', None),
        Recorded("t", b"8", b"\x00\x01", 5, (("dlq-id", b"x"),)),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"topic":"t","key":"7"}', "exactly one of value and raw"),
        ('{"topic":"t","key":"7","value":1,"raw":"AAE="}', "exactly one of value and raw"),
        ('{"topic":"t","key":"7","raw":"%%"}', "line 2"),
        ('{"topic":"t","value":1}', "missing required field `key`"),
        ('{"topic":"t","key":"7","value":1,"time":3}', "unknown field `time`"),
        ("nonsense", "JSON is malformed"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"topic":"t","key":"7","value":1}\n' + text + "\n")
    with pytest.raises(UsageError, match=r"cannot play .*: line 2: .*; correct the line") as info:
        read(path)
    assert why in str(info.value)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "out"
    write_atomically(path, b"old")

    def half() -> None:
        with replacing(path) as file:
            file.write(b"half of the ne")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        half()
    assert path.read_bytes() == b"old"
    assert [*path.parent.iterdir()] == [path]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(SdaError, match=r"cannot write .*; choose a writable folder"):
        write_atomically(path / "below", b"")


def test_lines_are_written_as_they_come() -> None:
    file = io.BytesIO()
    assert write_lines(file, iter(())) == 0
    assert file.getvalue() == b""
